"""Which ports and which subnet a stack has on this machine: picked once, kept, and checked to be free.

A lease is a file beside the stack's state, so that a second `up` finds the same numbers and two clones do
not meet. Nothing here makes a network or a container.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from infra.docker.engine import docker, inspect
from infra.settings import StackSettings
from infra.spec.errors import InfraError, SettingError
from infra.spec.world import World
from infra.whole_file import put

_PORTS = {
    "postgres": "postgresPort",
    "redis": "redisPort",
    "access": "accessPort",
    "prometheus": "prometheusPort",
}
_FIRST_PORT, _LAST_PORT = 20000, 31999


@dataclass(frozen=True)
class Leases:
    """Ports on 127.0.0.1 and the data network's subnet (CIDR)."""

    postgres: int
    redis: int
    access: int
    prometheus: int
    subnet: str


def take_leases(world: World, stack: str, settings: StackSettings) -> Leases:
    """The stack's leases: what its settings say, then what it had, then what is free.

    SettingError where a port that a setting names is taken by somebody else.
    """
    path = world.stack_dir(stack) / "leases.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    own = _own_ports(world, stack)
    wanted = {
        "postgres": settings.postgres_port,
        "redis": settings.redis_port,
        "access": settings.access_port,
        # Without monitoring nobody listens there, and so nothing can be in its way.
        "prometheus": settings.prometheus_port if settings.monitoring else 0,
    }
    chosen: dict[str, int] = {}
    # What a setting names is nobody else's to pick.
    named = set(wanted.values())
    for what, port in wanted.items():
        if port == 0:
            candidates = iter((kept[what],)) if what in kept else iter(())
            port = next(
                p
                for p in _chain(candidates, _candidate_ports(world, stack, what))
                if p not in named and p not in chosen.values() and (own.get(what) == p or _is_free(p))
            )
        elif own.get(what) != port and not _is_free(port):
            raise SettingError(
                f"groundwork:{_PORTS[what]}",
                f"port {port} of 127.0.0.1 is taken by another program",
                "stop it (`ss -ltnp` names it), set another port, or 0 to have a free one picked",
            )
        chosen[what] = port
    subnet = settings.network_subnet or _subnet(world, stack, kept.get("subnet"))
    leases = Leases(**chosen, subnet=subnet)
    if asdict(leases) != kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, json.dumps(asdict(leases), indent=2) + "\n")
    return leases


def _chain(*parts: Iterator[int]) -> Iterator[int]:
    for part in parts:
        yield from part


def _candidate_ports(world: World, stack: str, what: str) -> Iterator[int]:
    """Ports below the ephemeral range (32768 up), so that no outgoing connection sits on one."""
    span = _LAST_PORT - _FIRST_PORT + 1
    start = int.from_bytes(hashlib.sha256(f"{world.key}/{stack}/{what}".encode()).digest()[:4])
    for step in range(span):
        yield _FIRST_PORT + (start + step) % span
    raise InfraError(f"no port between {_FIRST_PORT} and {_LAST_PORT} is free on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Docker's own listener has it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _own_ports(world: World, stack: str) -> dict[str, int]:
    """Ports that this stack's own containers publish now."""
    ports: dict[str, int] = {}
    names = {world.name(stack, what): what for what in _PORTS}
    for container in inspect("container", *names):
        bindings = container["HostConfig"]["PortBindings"] or {}
        for binding in (b for entry in bindings.values() for b in entry or ()):
            if container["State"]["Running"] and binding.get("HostPort"):
                ports[names[container["Name"].lstrip("/")]] = int(binding["HostPort"])
    return ports


def _subnet(world: World, stack: str, kept: str | None) -> str:
    """A /24 of 10.192.0.0/10 that no Docker network has; the one kept stays as long as it is ours."""
    own = world.name(stack, "data")
    names = docker("network", "ls", "--format", "{{.Name}}").split()
    taken: list[ipaddress.IPv4Network] = []
    for network in inspect("network", *names):
        configs = network["IPAM"]["Config"] or ()
        subnets = [config["Subnet"] for config in configs if ":" not in config["Subnet"]]
        if network["Name"] == own:
            return str(subnets[0])
        taken += [ipaddress.IPv4Network(subnet) for subnet in subnets]
    start = int.from_bytes(hashlib.sha256(f"{world.key}/{stack}".encode()).digest()[:4])
    candidates = [f"10.{192 + n // 256}.{n % 256}.0/24" for n in range(64 * 256)]
    first = [kept] if kept else []
    for step in range(len(candidates)):
        candidate = first.pop() if first else candidates[(start + step) % len(candidates)]
        if not any(ipaddress.IPv4Network(candidate).overlaps(network) for network in taken):
            return candidate
    raise InfraError("no free subnet in 10.192.0.0/10; set groundwork:networkSubnet")
