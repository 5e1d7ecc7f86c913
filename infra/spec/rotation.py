"""The generations of each secret: which one is in use, and which ones are accepted. Contains numbers, never a secret.

A rotation has three phases: prepared (the next generation is accepted too), moved (the next generation is in use, and
the old one is still accepted), at rest (the old one is no longer accepted). The generation in use is always accepted.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from infra.spec.errors import InfraError
from infra.spec.redis_acl import LOCAL_USERS, SERVER_USERS
from infra.spec.roles import LOGINS

# What every stack has passwords of: Postgres roles, Redis users, and names that are both.
ROLES: Final = tuple(dict.fromkeys((*LOGINS, *(user.name for user in LOCAL_USERS))))
# A role with a single login has one password: the new one replaces the old one as soon as it is in use.
REPLACED_AT_ONCE: Final = tuple(role for role, logins in LOGINS.items() if len(logins) == 1)
# What only a Redis with replicas has passwords of.
REDIS_SERVER_ROLES: Final = tuple(user.name for user in SERVER_USERS)
AUTHORITY: Final = "authority"
# Server certificates are renewed in place, because clients trust the authority.
CERTIFICATES: Final = "certificates"
NAMES: Final = (*ROLES, *REDIS_SERVER_ROLES, AUTHORITY, CERTIFICATES)


class Phase(StrEnum):
    """The state of a secret's rotation."""

    AT_REST = "at rest"
    PREPARED = "prepared"
    MOVED = "moved"


@dataclass(frozen=True)
class Generation:
    """The generations of one secret: the one in use, and the accepted ones, oldest first.

    `since` is when the last step began (UTC), or None before the first rotation.
    """

    in_use: int = 1
    accepted: tuple[int, ...] = (1,)
    since: dt.datetime | None = None

    def __post_init__(self) -> None:
        first = self.accepted[0] if self.accepted else 0
        if (
            first < 1
            or self.accepted not in ((first,), (first, first + 1))
            or self.in_use not in self.accepted
        ):
            raise InfraError(f"generation {self.in_use} of {list(self.accepted)} is not a step of a rotation")

    @property
    def phase(self) -> Phase:
        if len(self.accepted) == 1:
            return Phase.AT_REST
        return Phase.PREPARED if self.in_use == self.accepted[0] else Phase.MOVED

    def step(self, now: dt.datetime) -> Generation:
        """Return the next step of the rotation."""
        match self.phase:
            case Phase.AT_REST:
                return Generation(self.in_use, (self.in_use, self.in_use + 1), now)
            case Phase.PREPARED:
                return Generation(self.accepted[1], self.accepted, now)
            case Phase.MOVED:
                return Generation(self.in_use, (self.in_use,), now)

    def is_step(self, other: Generation) -> bool:
        """Return whether both are the same step of a rotation, at whatever time."""
        return (self.in_use, self.accepted) == (other.in_use, other.accepted)

    def renewed(self, now: dt.datetime) -> Generation:
        """Return the next generation, which replaces this one in one step."""
        return Generation(self.in_use + 1, (self.in_use + 1,), now)


@dataclass(frozen=True)
class Rotation:
    """The generations of a stack's secrets by name. A secret that is missing was never rotated, and is at the first."""

    generations: Mapping[str, Generation] = field(default_factory=dict)

    def of(self, name: str) -> Generation:
        return self.generations.get(name, Generation())

    def phases(self) -> dict[str, Phase]:
        """Return the phase of each secret whose rotation is in progress, by name."""
        every = {name: self.of(name).phase for name in NAMES}
        return {name: phase for name, phase in every.items() if phase is not Phase.AT_REST}

    def step(self, names: Iterable[str], now: dt.datetime) -> Rotation:
        """Return the rotation with the given names advanced by one step."""
        return self._with({name: self.of(name).step(now) for name in names})

    def renew(self, name: str, now: dt.datetime) -> Rotation:
        return self._with({name: self.of(name).renewed(now)})

    def _with(self, changed: Mapping[str, Generation]) -> Rotation:
        return replace(self, generations={**self.generations, **changed})

    def as_json(self) -> dict[str, Any]:
        """Return plain data for the rotation file and the stack outputs. `from_json` reads it."""
        return {
            name: {
                "inUse": generation.in_use,
                "accepted": list(generation.accepted),
                "since": generation.since.isoformat() if generation.since else None,
            }
            for name, generation in sorted(self.generations.items())
        }

    @classmethod
    def from_json(cls, value: Any, place: str) -> Rotation:
        """Read the result of `as_json`. Raises InfraError, which names `place`, for a value that is not a rotation."""
        try:
            unknown = value.keys() - set(NAMES)
            if unknown:
                raise InfraError(f"{', '.join(sorted(unknown))} is not a secret that can be rotated")
            return cls({name: _generation(entry) for name, entry in value.items()})
        except (AttributeError, KeyError, TypeError, ValueError, InfraError) as error:
            reason = (
                str(error) if isinstance(error, InfraError) else "not in the format that groundwork writes"
            )
            raise InfraError(f"cannot use {place}: {reason}; restore it from a backup") from error

    def __str__(self) -> str:
        return json.dumps(self.as_json(), indent=2)


def _generation(entry: Mapping[str, Any]) -> Generation:
    # Pulumi's state may contain whole numbers as floats.
    accepted = tuple(int(number) for number in entry["accepted"])
    since = entry.get("since")
    return Generation(int(entry["inUse"]), accepted, dt.datetime.fromisoformat(since) if since else None)
