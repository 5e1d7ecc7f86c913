"""A stack for rotation tests, without servers. It can be killed at any point, and shows whether clients can log in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.spec.rotation import Rotation
from ops.errors import OpsError


class Killed(BaseException):
    """Like SIGKILL: the code's error handling does not run."""


@dataclass
class FakeStack:
    """The rotation file, the outputs of the last finished `up`, and the state of the servers.

    `points` counts the steps, and the process is killed at step `kill_at`. An `up` updates servers and clients in no
    particular order, so a half-finished `up` has updated only one of them.
    """

    written: Rotation = field(default_factory=Rotation)
    exported: Rotation = field(default_factory=Rotation)
    servers: Rotation = field(default_factory=Rotation)
    clients: Rotation = field(default_factory=Rotation)
    clients_first: bool = False
    kill_at: int | None = None
    points: int = 0
    ups: int = 0
    recorded: Rotation = field(default_factory=Rotation)
    is_healthy: bool = True
    open_sessions: dict[str, int] = field(default_factory=dict)
    locked_out: list[str] = field(default_factory=list)

    def wanted(self) -> Rotation:
        return self.written

    def applied(self) -> Rotation:
        return self.exported

    def progress(self) -> Rotation:
        return self.recorded

    def record(self, progress: Rotation) -> None:
        self._point()
        self.recorded = progress

    def require_healthy(self) -> None:
        if not self.is_healthy:
            raise OpsError("not healthy; run the same command again to resume")

    def apply(self, rotation: Rotation) -> None:
        self._point()
        self.written = rotation
        self._point()
        self.ups += 1
        for half in ("clients", "servers") if self.clients_first else ("servers", "clients"):
            setattr(self, half, self.written)
            self._point()
        self.exported = self.written
        self._point()
        self.require_healthy()

    def sessions(self, logins: Sequence[str]) -> dict[str, int]:
        self._point()
        return {login: self.open_sessions[login] for login in logins if login in self.open_sessions}

    def _point(self) -> None:
        names = {*self.servers.generations, *self.clients.generations}
        self.locked_out += [
            f"{name} at point {self.points}"
            for name in sorted(names)
            if self.clients.of(name).in_use not in self.servers.of(name).accepted
        ]
        self.points += 1
        if self.points == self.kill_at:
            raise Killed
