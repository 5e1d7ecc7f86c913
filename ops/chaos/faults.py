"""Cause a fault in a container, and undo it. Undoing is idempotent, and needs only what the journal records.

All faults but `kill` and `restart` end when their time is over, even if no process of groundwork is left: they are
processes in the container or in its network namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.docker.engine import STOP_LIMIT_SECONDS, docker, inspect
from infra.spec import postgres, redis
from ops.chaos import network
from ops.chaos.journal import ActiveFault
from ops.chaos.plan import FILL, FREEZE, KILL, PARTITION, RESTART, SLOW
from ops.errors import OpsError

_MB = 1024**2
# The largest file, and how much of the file system stays free.
FILL_MB, FLOOR_MB, FLOOR_PERCENT = 1024, 2048, 10
_LEAST_FILL_MB = 16
_DATA_FOLDERS = {"postgres": postgres.DATA_DIR, "redis": redis.DATA_DIR}
# The process that ends the fault waits until its time is over, or until `undo` has deleted its marker. `kill -- -1`
# affects neither init nor the shell that runs it.
_MARKER = "/tmp/groundwork-chaos-$1"
_UNTIL_THE_END = f'n=0; while [ "$n" -lt "$2" ] && [ -e "{_MARKER}" ]; do sleep 1; n=$((n + 1)); done'
_THAW = f'rm -f "{_MARKER}"; kill -s CONT -- -1'
_FREEZE = f': > "{_MARKER}"; kill -s STOP -- -1; {_UNTIL_THE_END}; [ ! -e "{_MARKER}" ] || {{ {_THAW}; }}'
_FILL_FILE = "$3/groundwork-chaos.fill"
_EMPTY = f'rm -f "{_FILL_FILE}" "{_MARKER}"'
_FILL = (
    f': > "{_MARKER}"; fallocate -l "$4" "{_FILL_FILE}"; {_UNTIL_THE_END}; [ ! -e "{_MARKER}" ] || {_EMPTY}'
)


class FaultImpossible(OpsError):
    """A fault cannot be caused here now. Nothing was changed."""


@dataclass(frozen=True)
class FaultInjector:
    """Causes and undoes the faults of a stack, with the owner's labels and the image of network faults.

    `addresses` returns the addresses from which a service is cut off.
    """

    labels: Mapping[str, str]
    image: Callable[[], str]
    addresses: Callable[[str], Sequence[str]]

    def cause(self, active: ActiveFault, seconds: int) -> str:
        """Cause a fault, and return a description of what was done, or an empty text.

        Raise FaultImpossible or DockerError. In both cases, `undo` has to be called.
        """
        container, fault = active.container, active.fault
        if fault == KILL:
            docker("kill", container)
        elif fault == RESTART:
            docker("restart", container, timeout_seconds=STOP_LIMIT_SECONDS)
        elif fault == FREEZE:
            _in_background(container, _FREEZE, active.token, str(seconds))
        elif fault == FILL:
            return _fill(active, seconds)
        elif fault == PARTITION:
            addresses = self.addresses(active.service)
            return network.cut_off(container, self.image(), seconds, self.labels, addresses)
        elif fault == SLOW:
            return network.slow(container, self.image(), seconds, self.labels)
        return ""

    def undo(self, active: ActiveFault) -> None:
        """Undo a fault. Does nothing if it is over, or if the container does not exist any more. Raise DockerError."""
        container, fault = active.container, active.fault
        found = inspect("container", container)
        if not found:
            return
        is_running = found[0]["State"]["Running"]
        if fault in (KILL, RESTART) and not is_running:
            docker("start", container)
        elif fault == FREEZE and is_running:
            docker("exec", container, "sh", "-c", _THAW, "sh", active.token)
        elif fault == FILL:
            if not is_running:
                # The file is in the container's volume.
                docker("start", container)
            folder = _DATA_FOLDERS[_kind(active.service)]
            docker("exec", container, "sh", "-c", _EMPTY, "sh", active.token, "", folder)
        elif fault in (PARTITION, SLOW):
            network.undo(container, self.image, self.labels)


def _fill(active: ActiveFault, seconds: int) -> str:
    folder = _DATA_FOLDERS[_kind(active.service)]
    line = docker("exec", active.container, "df", "--output=size,avail", "-B1", folder).splitlines()[-1]
    megabytes = fill_size(*(int(word) for word in line.split()))
    if megabytes < _LEAST_FILL_MB:
        raise FaultImpossible(f"the disk of {active.service} is nearly full; free some space")
    size = str(megabytes * _MB)
    _in_background(active.container, _FILL, active.token, str(seconds), folder, size)
    return f"{megabytes} MB"


def fill_size(size: int, free: int) -> int:
    """Return how many MB to write to a file system of this size and free space, both in bytes."""
    floor = max(FLOOR_MB * _MB, size * FLOOR_PERCENT // 100)
    return max(0, min(FILL_MB, (free - floor) // _MB))


def _in_background(container: str, script: str, *arguments: str) -> None:
    docker("exec", "--detach", container, "sh", "-c", script, "sh", *arguments)


def _kind(service: str) -> str:
    """Return the kind of a server, such as `redis` for redis-2."""
    return service.partition("-")[0]
