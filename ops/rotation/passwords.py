"""Rotate passwords: the new one is accepted, then used, and after a grace period the old one is revoked.

In Postgres a role moves between its two logins. In Redis a user has two passwords during the rotation. The migrator
has a single login that only this tool uses, so its password is changed in place.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.spec import roles as postgres_roles
from infra.spec.rotation import REDIS_SERVER_ROLES, Phase, Rotation
from ops.errors import Exit, OpsError
from ops.rotation.steps import RotationPlan, Say, Steppable, conclude, take_steps

_LOOK_SECONDS = 1.0


class Guarded(Steppable, Protocol):
    """A stack whose sessions can be counted by login."""

    def sessions(self, logins: Sequence[str]) -> dict[str, int]: ...


@dataclass
class PasswordRotation:
    """The result of a rotation. `resumed`: roles whose rotation had begun before. `ended`: terminated sessions."""

    roles: tuple[str, ...]
    resumed: tuple[str, ...] = ()
    old_is_void: bool = False
    ended: dict[str, int] = field(default_factory=dict)

    def as_json(self, rotation: Rotation) -> dict[str, Any]:
        return {
            "roles": {
                role: {
                    "generation": rotation.of(role).in_use,
                    "login": login_in_use(rotation, role),
                    "phase": rotation.of(role).phase.value,
                }
                for role in self.roles
            },
            "resumed": list(self.resumed),
            "oldPasswords": "void" if self.old_is_void else "accepted",
            "endedSessions": self.ended,
        }


def known_roles(names: Sequence[str], roles: Sequence[str]) -> tuple[str, ...]:
    """Return the names without duplicates. Raise OpsError (2) for one that is not among the stack's roles."""
    import difflib

    for name in names:
        if name in set(REDIS_SERVER_ROLES).difference(roles):
            raise OpsError(
                f"role {name!r} exists only in a stack with replicas of Redis (groundwork:redisReplicas); leave it out",
                Exit.USAGE,
            )
        if name not in roles:
            close = difflib.get_close_matches(name, roles, n=1)
            hint = f"did you mean {close[0]}?" if close else f"roles: {', '.join(roles)}"
            raise OpsError(f"unknown role {name!r}; {hint}", Exit.USAGE)
    return tuple(dict.fromkeys(names))


def login_in_use(rotation: Rotation, role: str) -> str | None:
    """Return the login that a role uses in Postgres, or None for a role without a login."""
    return postgres_roles.login_of(role, rotation.of(role).in_use) if role in postgres_roles.LOGINS else None


def old_logins(rotation: Rotation, names: Sequence[str]) -> list[str]:
    """Return the logins that roles in phase MOVED no longer use."""
    moved = [n for n in names if n in postgres_roles.LOGINS and rotation.of(n).phase is Phase.MOVED]
    logins = {name: postgres_roles.login_of(name, rotation.of(name).accepted[0]) for name in moved}
    return [login for name, login in logins.items() if login != login_in_use(rotation, name)]


def rotate_passwords(
    stack: Guarded,
    names: Sequence[str],
    *,
    grace_seconds: float,
    keep_old: bool,
    try_out: Callable[[Sequence[str], bool], None],
    say: Say,
    sleep: Callable[[float], None] = time.sleep,
) -> PasswordRotation:
    """Rotate every role to its next password, or complete a rotation that has begun.

    `try_out(roles, old_is_void)` raises OpsError if a role cannot log in with its current password. The old passwords
    are kept then, unless they are void already.
    """
    done = PasswordRotation(tuple(names))

    def wait(moved_at: dt.datetime) -> None:
        try_out(names, False)
        ends = moved_at + dt.timedelta(seconds=grace_seconds)
        done.ended = _wait(stack, old_logins(stack.wanted(), names), ends, say, sleep)

    plan = RotationPlan(
        names=done.roles,
        prepare="accepting the new passwords next to the old ones",
        move="using the new passwords",
        retire="revoking the old passwords",
        before_moving=lambda _: None,
        before_retiring=wait,
    )
    course = take_steps(stack, plan, keep_old=keep_old, say=say)
    if course.ended or not course.is_over:
        try_out(names, course.is_over)
    conclude(stack, names, course.ended, say)
    done.resumed, done.old_is_void = course.resumed, course.is_over
    return done


def _wait(
    stack: Guarded, logins: Sequence[str], until: dt.datetime, say: Say, sleep: Callable[[float], None]
) -> dict[str, int]:
    """Wait for the grace period, and report sessions of old logins. Return those that are left at its end."""
    reported: dict[str, int] | None = None
    while True:
        sessions = stack.sessions(logins)
        left = max((until - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)
        if sessions != reported:
            still = ", ".join(f"{login} has {count}" for login, count in sessions.items()) or "none"
            say(f"sessions of the old logins: {still}; the old passwords are accepted for {left:.0f} s more")
            reported = sessions
        if not left:
            return sessions
        sleep(min(_LOOK_SECONDS, left))
