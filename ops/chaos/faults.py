"""Cause a fault in a container, and undo it. Undoing is idempotent, and needs only what the journal records.

All faults but `kill` and `restart` end when their time is over, even if no process of groundwork is left: `freeze` by a
process in the container, the others by a helper container.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infra.docker.engine import STOP_LIMIT_SECONDS, docker, inspect
from infra.spec import postgres, redis
from ops.chaos import disk, network
from ops.chaos.helper import Helper
from ops.chaos.journal import ActiveFault
from ops.chaos.plan import FILL, FREEZE, KILL, PARTITION, RESTART, SLOW
from ops.errors import OpsError

# The folder of a server's data volume, and the user that owns it.
_DATA = {"postgres": (postgres.DATA_DIR, postgres.UID), "redis": (redis.DATA_DIR, redis.UID)}
# The process that ends the fault waits until its time is over, or until `undo` has deleted its marker. `kill -- -1`
# affects neither init nor the shell that runs it.
_MARKER = "/tmp/groundwork-chaos-$1"
_UNTIL_THE_END = f'n=0; while [ "$n" -lt "$2" ] && [ -e "{_MARKER}" ]; do sleep 1; n=$((n + 1)); done'
_THAW = f'rm -f "{_MARKER}"; kill -s CONT -- -1'
# The shell that waits starts after the signal, which would stop it too.
_FREEZE = (
    f': > "{_MARKER}"; kill -s STOP -- -1;'
    f' {{ {_UNTIL_THE_END}; [ ! -e "{_MARKER}" ] || {{ {_THAW}; }}; }} </dev/null >/dev/null 2>&1 &'
)


class FaultImpossible(OpsError):
    """A fault cannot be caused here now. Nothing was changed."""


@dataclass(frozen=True)
class FaultInjector:
    """Causes and undoes the faults of a stack. Helpers get the owner's labels. `image` has the tools of network faults.

    `addresses` returns the addresses from which a service is cut off. `record` writes the journal.
    """

    labels: Mapping[str, str]
    image: Callable[[], str]
    addresses: Callable[[str], Sequence[str]]
    record: Callable[[ActiveFault], None]

    def cause(self, active: ActiveFault, seconds: int) -> str:
        """Cause a fault, and return a description of what was done, or an empty text.

        Before that, record what `undo` needs besides. Raise FaultImpossible or DockerError. In both cases, `undo` has
        to be called.
        """
        container, fault = active.container, active.fault
        found = _inspected(container)
        if found is None:
            raise FaultImpossible(f"{active.service} is missing")
        volume = _data_volume(active.service, found) if fault == FILL else ""
        active = replace(active, started=_start_of(found), volume=volume)
        self.record(active)
        if fault == KILL:
            docker("kill", container)
        elif fault == RESTART:
            docker("restart", container, timeout_seconds=STOP_LIMIT_SECONDS)
        elif fault == FREEZE:
            docker("exec", container, "sh", "-ceu", _FREEZE, "sh", active.token, str(seconds))
        elif fault == FILL:
            helper = self._disk_helper(active.service, active.volume)
            helper.start(found["Image"], seconds)
            if not (megabytes := disk.fill(helper)):
                raise FaultImpossible(f"the disk of {active.service} is nearly full; free some space")
            return f"{megabytes} MB"
        elif fault in (PARTITION, SLOW):
            helper = network.helper_of(container, self.labels)
            helper.start(self.image(), seconds)
            if fault == PARTITION:
                return network.cut_off(helper, self.addresses(active.service))
            return network.slow(helper)
        return ""

    def undo(self, active: ActiveFault) -> None:
        """Undo a fault. Does nothing if it is over. Raise DockerError."""
        container, fault = active.container, active.fault
        found = _inspected(container)
        is_running = found is not None and found["State"]["Running"]
        is_affected = found is not None and _is_affected(active, found)
        if fault == FILL:
            self._undo_fill(active, found)
        elif fault in (PARTITION, SLOW):
            helper = network.helper_of(container, self.labels)
            if is_affected:
                helper.undo(self.image)
            helper.remove()
        elif fault == FREEZE and is_affected:
            docker("exec", container, "sh", "-c", _THAW, "sh", active.token)
        elif fault in (KILL, RESTART) and found is not None and not is_running:
            docker("start", container)

    def _undo_fill(self, active: ActiveFault, container: Mapping[str, Any] | None) -> None:
        """Delete the file from the volume, which may have outlived its container."""
        volume = active.volume
        if not volume and container is not None:
            # An entry of an earlier version, or of a run that was killed before the fault began.
            volume = _data_volume(active.service, container)
        if volume:
            helper = self._disk_helper(active.service, volume)
            if inspect("volume", volume):
                helper.undo(self.image if container is None else lambda: str(container["Image"]))
            helper.remove()

    def _disk_helper(self, service: str, volume: str) -> Helper:
        _, uid = _data_of(service)
        return disk.helper_of(volume, f"{uid}:{uid}", self.labels)


def _inspected(container: str) -> Mapping[str, Any] | None:
    return next(iter(inspect("container", container)), None)


def _is_affected(active: ActiveFault, container: Mapping[str, Any]) -> bool:
    """Return whether the container still has the processes and the network that a fault affects."""
    state = container["State"]
    # A container that crashes again and again counts as running while it waits for its next start.
    is_up = state["Running"] and not state["Restarting"]
    return is_up and active.started in ("", _start_of(container))


def _start_of(container: Mapping[str, Any]) -> str:
    """Return the id of a container, with the time at which it started last."""
    return f"{container['Id']} {container['State']['StartedAt']}"


def _data_volume(service: str, container: Mapping[str, Any]) -> str:
    folder, _ = _data_of(service)
    return next(str(each["Name"]) for each in container["Mounts"] if each["Destination"] == folder)


def _data_of(service: str) -> tuple[str, int]:
    """Return the data folder and the user of a server, such as redis-2."""
    return _DATA[service.partition("-")[0]]
