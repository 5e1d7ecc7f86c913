"""The ports and the subnet of a stack on this machine: chosen once, stored, and checked to be free.

The leases are stored in a file beside the stack's state, so that the next `up` uses the same numbers and two checkouts
do not collide. This module does not create networks or containers.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass

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

    Raises SettingError if a port that a setting names is in use by another program.
    """
    path = checkout.stack_dir(stack) / "leases.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
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
                    "set another port, or run `groundwork down` before `groundwork up`",
                )
            raise SettingError(
                f"groundwork:{key}",
                f"port {port} of 127.0.0.1 is in use by another program",
                "stop the program (`ss -ltnp` shows it), set another port, or set 0 to choose a free one",
            )
        chosen[what] = port
    subnet = settings.network_subnet or _subnet(checkout, stack, kept.get("subnet"))
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


def _subnet(checkout: Checkout, stack: str, kept: str | None) -> str:
    """Return the subnet of the stack's network if it exists, else a /24 of 10.192.0.0/10 that no Docker network uses.

    The stored subnet is preferred if it is free.
    """
    own = checkout.name(stack, "data")
    names = docker("network", "ls", "--format", "{{.Name}}").split()
    taken: list[ipaddress.IPv4Network] = []
    for network in inspect("network", *names):
        configs = network["IPAM"]["Config"] or ()
        subnets = [config["Subnet"] for config in configs if ":" not in config["Subnet"]]
        if network["Name"] == own:
            return str(subnets[0])
        taken += [ipaddress.IPv4Network(subnet) for subnet in subnets]
    start = int.from_bytes(hashlib.sha256(f"{checkout.key}/{stack}".encode()).digest()[:4])
    candidates = [f"10.{192 + n // 256}.{n % 256}.0/24" for n in range(64 * 256)]
    first = [kept] if kept else []
    for step in range(len(candidates)):
        candidate = first.pop() if first else candidates[(start + step) % len(candidates)]
        if not any(ipaddress.IPv4Network(candidate).overlaps(network) for network in taken):
            return candidate
    raise InfraError("no free subnet in 10.192.0.0/10; set groundwork:networkSubnet")
