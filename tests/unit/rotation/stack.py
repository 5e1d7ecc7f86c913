"""A stack for rotations without servers: it may be killed at any point, and says whether everybody gets in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.spec.rotation import Rotation


class Killed(BaseException):
    """As SIGKILL: nothing that the code does about errors applies."""


@dataclass
class FakeStack:
    """What is written down, what the last finished `up` exported, and what the servers accept.

    `points` of the way are counted; at the `kill_at`th it is killed. An `up` reaches servers and clients in an
    order of its own, so half an `up` is one of both.
    """

    written: Rotation = field(default_factory=Rotation)
    exported: Rotation = field(default_factory=Rotation)
    servers: Rotation = field(default_factory=Rotation)
    clients: Rotation = field(default_factory=Rotation)
    clients_first: bool = False
    kill_at: int | None = None
    points: int = 0
    ups: int = 0
    open_sessions: dict[str, int] = field(default_factory=dict)
    locked_out: list[str] = field(default_factory=list)

    def wanted(self) -> Rotation:
        return self.written

    def applied(self) -> Rotation:
        return self.exported

    def apply(self, rotation: Rotation | None = None) -> None:
        self._point()
        if rotation is not None:
            self.written = rotation
        self._point()
        self.ups += 1
        for half in ("clients", "servers") if self.clients_first else ("servers", "clients"):
            setattr(self, half, self.written)
            self._point()
        self.exported = self.written
        self._point()

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
