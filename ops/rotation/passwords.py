"""Rotates passwords: the next one is accepted, then used, and after a grace the last one is void.

In Postgres a role moves between its two logins, in Redis a user has two passwords meanwhile. The migrator has
one login, which nobody but this tool uses: its password is changed in place.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.spec import roles as postgres_roles
from infra.spec.rotation import ROLES, Phase, Rotation
from ops.errors import Exit, OpsError
from ops.rotation.steps import Plan, Say, Steppable, take_steps

_LOOK_SECONDS = 1.0


class Guarded(Steppable, Protocol):
    """A stack whose sessions can be counted, by login."""

    def sessions(self, logins: Sequence[str]) -> dict[str, int]: ...


@dataclass
class Done:
    """What a rotation came to. `resumed`: what had been begun before. `ended`: sessions that had not moved."""

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


def known_roles(names: Sequence[str]) -> tuple[str, ...]:
    """The roles, each once; OpsError (2) for one there is not."""
    import difflib

    for name in names:
        if name not in ROLES:
            close = difflib.get_close_matches(name, ROLES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(ROLES)}"
            raise OpsError(f"there is no role {name!r} to rotate; {hint}", Exit.USAGE)
    return tuple(dict.fromkeys(names))


def login_in_use(rotation: Rotation, role: str) -> str | None:
    """The login that a role uses in Postgres; None where it has none."""
    return postgres_roles.login_of(role, rotation.of(role).in_use) if role in postgres_roles.LOGINS else None


def old_logins(rotation: Rotation, names: Sequence[str]) -> list[str]:
    """The logins that roles which have moved came from, and no longer use."""
    moved = [n for n in names if n in postgres_roles.LOGINS and rotation.of(n).phase is Phase.MOVED]
    logins = {name: postgres_roles.login_of(name, rotation.of(name).accepted[0]) for name in moved}
    return [login for name, login in logins.items() if login != login_in_use(rotation, name)]


def rotate_passwords(
    stack: Guarded,
    names: Sequence[str],
    *,
    grace_seconds: float,
    keep_old: bool,
    try_out: Callable[[Sequence[str]], None],
    say: Say,
    sleep: Callable[[float], None] = time.sleep,
) -> Done:
    """Take every role to its next password, or a begun rotation to its end.

    `try_out` raises OpsError where what is in use now does not let a role in: then the old passwords stay.
    """
    done = Done(tuple(names))

    def wait(moved_at: dt.datetime) -> None:
        try_out(names)
        ends = moved_at + dt.timedelta(seconds=grace_seconds)
        done.ended = _wait(stack, old_logins(stack.wanted(), names), ends, say, sleep)

    plan = Plan(
        names=done.roles,
        prepare="the new passwords are accepted beside the old ones",
        move="the new passwords are in use",
        retire="the old passwords become void",
        before_moving=lambda _: None,
        before_retiring=wait,
    )
    course = take_steps(stack, plan, keep_old=keep_old, say=say)
    if not course.is_over:
        try_out(names)
    done.resumed, done.old_is_void = course.resumed, course.is_over
    return done


def _wait(
    stack: Guarded, logins: Sequence[str], until: dt.datetime, say: Say, sleep: Callable[[float], None]
) -> dict[str, int]:
    """Wait the grace out, telling who has not moved; the sessions that are left at its end."""
    told: dict[str, int] | None = None
    while True:
        sessions = stack.sessions(logins)
        left = max((until - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)
        if sessions != told:
            still = ", ".join(f"{login} has {count}" for login, count in sessions.items()) or "none"
            say(f"sessions of the old logins: {still}; the old passwords are accepted for {left:.0f} s more")
            told = sessions
        if not left:
            return sessions
        sleep(min(_LOOK_SECONDS, left))
