"""The ports and the subnet of a stack on this machine: chosen once, stored, and checked to be free.

The leases are stored in a file beside the stack's state, so that the next `up` uses the same numbers and two checkouts
do not collide. This module does not create networks or containers.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path

from infra.atomic_write import put
from infra.docker.engine import docker, inspect
from infra.settings import StackSettings
from infra.settings.docker import named_ports
from infra.spec import postgres_cluster
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError, SettingError
from infra.state_folder import make_private

_SERVICES = ("postgres", "redis", "access", "prometheus")
# The servers after the first, with replicas.
_MORE_POSTGRES = ("postgres_2", "postgres_3")
_MORE_REDIS = ("redis_2", "redis_3")
_FIRST_PORT, _LAST_PORT = 20000, 31999
# The kernel's routes: destination and mask as hexadecimal numbers in network byte order.
_ROUTES = Path("/proc/net/route")


@dataclass(frozen=True)
class NetworkLeases:
    """Ports on 127.0.0.1, and the data network's subnet (CIDR). Without replicas their ports are 0."""

    postgres: int
    redis: int
    access: int
    prometheus: int
    subnet: str
    # 0 without replicas.
    postgres_2: int = 0
    postgres_3: int = 0
    redis_2: int = 0
    redis_3: int = 0

    @property
    def postgres_members(self) -> dict[str, int]:
        """Return the port of each member of a Postgres cluster."""
        return dict(
            zip(postgres_cluster.MEMBERS, (self.postgres, self.postgres_2, self.postgres_3), strict=True)
        )

    @property
    def redis_servers(self) -> list[int]:
        """The ports of all Redis servers."""
        return [port for port in (self.redis, self.redis_2, self.redis_3) if port]


def take_leases(checkout: Checkout, stack: str, settings: StackSettings) -> NetworkLeases:
    """Choose the stack's leases, and store them: from the settings, else the stored value, else a free one.

    Raises SettingError if a port or a subnet that a setting names is in use.
    """
    path = checkout.stack_dir(stack) / "leases.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    own = _own_ports(checkout, stack)
    set_ports = named_ports(settings)
    if not settings.monitoring:
        # The port is not used, so another program may use it.
        set_ports.pop("prometheus", None)
    services = (
        *_SERVICES,
        *(_MORE_POSTGRES if settings.postgres_replicas else ()),
        *(_MORE_REDIS if settings.redis_replicas else ()),
    )
    chosen: dict[str, int] = {}
    # A service without a setting must not choose a port that another service's setting names.
    named = {port for _, port in set_ports.values()}
    for what in services:
        key, port = set_ports.get(what, ("", 0))
        if port == 0:
            candidates = iter((kept[what],)) if kept.get(what) else iter(())
            port = next(
                p
                for p in _chain(candidates, _candidate_ports(checkout, stack, what))
                if p not in named and p not in chosen.values() and (own.get(what) == p or _is_free(p))
            )
        elif own.get(what) != port and not _is_free(port):
            if other := next((each for each, used in own.items() if used == port), None):
                raise SettingError(
                    f"groundwork:{key}",
                    f"port {port} of 127.0.0.1 is in use by {other.replace('_', '-')} of this stack",
                    f"set another port, or run `groundwork down --stack {stack}` and then"
                    f" `groundwork up --stack {stack}`",
                )
            raise SettingError(
                f"groundwork:{key}",
                f"port {port} of 127.0.0.1 is in use by another program",
                "stop the program (`ss -ltnp` shows it), set another port, or set 0 to choose a free one",
            )
        chosen[what] = port
    subnet = _subnet(checkout, stack, settings.network_subnet, kept.get("subnet"))
    leases = NetworkLeases(**chosen, subnet=subnet)
    if asdict(leases) != kept:
        make_private(checkout, path.parent)
        put(path, json.dumps(asdict(leases), indent=2) + "\n")
    return leases


def _chain(*parts: Iterator[int]) -> Iterator[int]:
    for part in parts:
        yield from part


def _candidate_ports(checkout: Checkout, stack: str, what: str) -> Iterator[int]:
    """Yield ports below the ephemeral range (from 32768), which outgoing connections use."""
    span = _LAST_PORT - _FIRST_PORT + 1
    start = int.from_bytes(hashlib.sha256(f"{checkout.key}/{stack}/{what}".encode()).digest()[:4])
    for step in range(span):
        yield _FIRST_PORT + (start + step) % span
    raise InfraError(f"no port between {_FIRST_PORT} and {_LAST_PORT} is free on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Docker's listener sets this option too, so a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _own_ports(checkout: Checkout, stack: str) -> dict[str, int]:
    """Return the ports that this stack's containers publish now."""
    ports: dict[str, int] = {}
    more = (*_MORE_POSTGRES, *_MORE_REDIS)
    names = {checkout.name(stack, what.replace("_", "-")): what for what in (*_SERVICES, *more)}
    for container in inspect("container", *names):
        bindings = container["HostConfig"]["PortBindings"] or {}
        for binding in (b for entry in bindings.values() for b in entry or ()):
            if container["State"]["Running"] and binding.get("HostPort"):
                ports[names[container["Name"].lstrip("/")]] = int(binding["HostPort"])
    return ports


def _subnet(checkout: Checkout, stack: str, wanted: str, kept: str | None) -> str:
    """Return the subnet of the setting, else that of the stack's network if it exists, else one that is free.

    The stored subnet is preferred if no Docker network uses it. A new one is a /24 of 10.192.0.0/10, if possible
    without addresses to which this machine has a route, such as those of a VPN.
    """
    own = checkout.name(stack, "data")
    taken: dict[str, list[IPv4Network]] = {}
    # By id, because a name may have a space, and engines older than 25 allow two networks of one name.
    for network in inspect("network", *docker("network", "ls", "--no-trunc", "--quiet").split()):
        if network.get("Scope", "local") != "local":
            # An overlay network of a swarm has its own address space.
            continue
        subnets = (config["Subnet"] for config in network["IPAM"]["Config"] or ())
        # A network without addresses of its own has 0.0.0.0/0.
        taken.setdefault(network["Name"], []).extend(
            # Engines older than 25 report the address that the network was created with, e.g. 172.30.0.5/24.
            IPv4Network(s, strict=False)
            for s in subnets
            if ":" not in s and not s.endswith("/0")
        )
    mine = taken.pop(own, None)
    if wanted:
        if IPv4Network(wanted) not in (mine or ()):
            _refuse_overlap(IPv4Network(wanted), taken)
        return wanted
    if mine:
        return str(mine[0])
    used = [subnet for subnets in taken.values() for subnet in subnets]
    if kept and not _overlaps(IPv4Network(kept), used):
        return kept
    for avoided in ([*used, *_routed()], used):
        free = next((each for each in _candidates(checkout, stack) if not _overlaps(each, avoided)), None)
        if free is not None:
            return str(free)
    raise InfraError("no free subnet in 10.192.0.0/10; set groundwork:networkSubnet")


def _candidates(checkout: Checkout, stack: str) -> Iterator[IPv4Network]:
    """Yield each /24 of 10.192.0.0/10, beginning with one that depends on the stack."""
    start = int.from_bytes(hashlib.sha256(f"{checkout.key}/{stack}".encode()).digest()[:4])
    for step in range(64 * 256):
        second, third = divmod((start + step) % (64 * 256), 256)
        yield IPv4Network(f"10.{192 + second}.{third}.0/24")


def _refuse_overlap(wanted: IPv4Network, taken: Mapping[str, list[IPv4Network]]) -> None:
    """Raise SettingError if a Docker network overlaps. Docker would refuse it when `up` has removed the servers."""
    for name, subnets in taken.items():
        if found := next((each for each in subnets if each.overlaps(wanted)), None):
            raise SettingError(
                "groundwork:networkSubnet",
                f"{wanted} overlaps {found} of Docker's network {name}",
                "set another private subnet, or remove the setting to choose a free one",
            )


def _overlaps(subnet: IPv4Network, others: Iterable[IPv4Network]) -> bool:
    return any(subnet.overlaps(each) for each in others)


def _routed() -> list[IPv4Network]:
    """Return the networks to which this machine has a route, without the default route."""
    try:
        lines = _ROUTES.read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        destination, mask = (socket.htonl(int(fields[n], 16)) for n in (1, 7))
        if mask:
            found.append(IPv4Network((destination, mask.bit_count())))
    return found
