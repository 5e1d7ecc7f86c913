"""Plan which faults a run causes, where, when and for how long. The same seed and settings give the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from infra.spec import etcd, redis_replication

KILL, FREEZE, PARTITION, RESTART, SWITCHOVER, FILL, SLOW = FAULTS = (
    "kill", "freeze", "partition", "restart", "switchover", "fill", "slow",
)  # fmt: skip
SERVICES = ("postgres", "redis", "access")
# A role instead of a server: which server has it is only known when the fault begins.
PRIMARY, REPLICA = "primary", "replica"
# These take as long as the server needs.
_WITHOUT_DURATION = (RESTART, SWITCHOVER)
# A replica takes over from a Postgres primary after 20 s, so some faults have to be longer than that.
LONGEST_SECONDS = 45
_SHORTEST_SECONDS = 3
_LONGEST_PAUSE = 20
# How much more often a primary is affected than another server.
_PRIMARY_WEIGHT = 4


@dataclass(frozen=True)
class Topology:
    """Which servers of a stack have replicas."""

    has_postgres_replicas: bool
    has_redis_replicas: bool

    def targets(self, services: Sequence[str]) -> list[str]:
        """Return everything that a fault can affect, such as `postgres primary` or `etcd-2`."""
        found = []
        for service, has_replicas, voters in (
            ("postgres", self.has_postgres_replicas, etcd.MEMBERS),
            ("redis", self.has_redis_replicas, redis_replication.SENTINEL_NAMES),
        ):
            if service in services:
                found.append(f"{service} {PRIMARY}")
                found += [f"{service} {REPLICA}", *voters] if has_replicas else []
        return [*found, "access"] if "access" in services else found


@dataclass(frozen=True)
class Step:
    """A planned fault, which begins after `at` seconds or later, and lasts `seconds` (0: as long as it takes)."""

    at: int
    fault: str
    target: str
    seconds: int

    def as_json(self) -> dict[str, object]:
        return {"at": self.at, "fault": self.fault, "target": self.target, "seconds": self.seconds}


def targets_of(fault: str, topology: Topology, services: Sequence[str]) -> list[str]:
    """Return what a fault can affect in a stack. Empty if it is not possible there."""
    targets = topology.targets(services)
    if fault == SWITCHOVER:
        # Only a server with replicas has a role that can move.
        return [each.replace(REPLICA, PRIMARY) for each in targets if each.endswith(REPLICA)]
    if fault == FILL:
        # The others have no volume, or only a small one.
        return [each for each in targets if " " in each]
    return targets


def make_plan(
    seed: int, total_seconds: int, faults: Sequence[str], topology: Topology, services: Sequence[str]
) -> list[Step]:
    """Return the steps, one after the other. The last one ends before `total_seconds`.

    Every fault occurs once before one occurs again. Faults that are not possible in the stack are left out.
    """
    random = Random(seed)
    possible = {fault: targets for fault in faults if (targets := targets_of(fault, topology, services))}
    most = min(LONGEST_SECONDS, max(_SHORTEST_SECONDS, total_seconds // 2))
    pause = min(_LONGEST_PAUSE, max(1, total_seconds // 6))
    at = random.randint(1, pause)
    steps = []
    for fault in _in_turns(random, list(possible)):
        targets = possible[fault]
        weights = [_PRIMARY_WEIGHT if each.endswith(PRIMARY) else 1 for each in targets]
        (target,) = random.choices(targets, weights)
        seconds = 0 if fault in _WITHOUT_DURATION else random.randint(_SHORTEST_SECONDS, most)
        if at + seconds >= total_seconds:
            break
        steps.append(Step(at, fault, target, seconds))
        at += seconds + random.randint(1, pause)
    return steps


def _in_turns(random: Random, faults: list[str]) -> Iterator[str]:
    while faults:
        random.shuffle(faults)
        yield from faults
