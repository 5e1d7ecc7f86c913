"""Which generation of each secret is in use, and which ones are accepted: numbers only, never a secret.

A generation goes one way: prepared (the next one is accepted too), moved (it is in use, the last one still
accepted), at rest (the last one is gone). At no step is the one in use not accepted.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from infra.spec.errors import InfraError
from infra.spec.redis_acl import LOCAL_USERS
from infra.spec.roles import LOGINS

# Whatever has passwords of its own: the roles of Postgres, the users of Redis, and those that are both.
ROLES: Final = tuple(dict.fromkeys((*LOGINS, *(user.name for user in LOCAL_USERS))))
AUTHORITY: Final = "authority"
# Servers' certificates are renewed in place: clients trust the authority.
CERTIFICATES: Final = "certificates"
NAMES: Final = (*ROLES, AUTHORITY, CERTIFICATES)


class Phase(StrEnum):
    """How far a secret's rotation is."""

    AT_REST = "at rest"
    PREPARED = "prepared"
    MOVED = "moved"


@dataclass(frozen=True)
class Generation:
    """The generations of one secret: the one in use, and those accepted, oldest first.

    `since` is when the last step was begun (UTC), None before the first rotation.
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
            raise InfraError(f"generation {self.in_use} of {list(self.accepted)} is no step of a rotation")

    @property
    def phase(self) -> Phase:
        if len(self.accepted) == 1:
            return Phase.AT_REST
        return Phase.PREPARED if self.in_use == self.accepted[0] else Phase.MOVED

    def step(self, now: dt.datetime) -> Generation:
        """The generation one step further."""
        match self.phase:
            case Phase.AT_REST:
                return Generation(self.in_use, (self.in_use, self.in_use + 1), now)
            case Phase.PREPARED:
                return Generation(self.accepted[1], self.accepted, now)
            case Phase.MOVED:
                return Generation(self.in_use, (self.in_use,), now)

    def renewed(self, now: dt.datetime) -> Generation:
        """The next generation in place of this one, at once."""
        return Generation(self.in_use + 1, (self.in_use + 1,), now)


@dataclass(frozen=True)
class Rotation:
    """The generations of a stack's secrets by name; what was never rotated is at its first."""

    generations: Mapping[str, Generation] = field(default_factory=dict)

    def of(self, name: str) -> Generation:
        return self.generations.get(name, Generation())

    def phases(self) -> dict[str, Phase]:
        """What is under way: name -> phase; nothing at rest."""
        every = {name: self.of(name).phase for name in NAMES}
        return {name: phase for name, phase in every.items() if phase is not Phase.AT_REST}

    def step(self, names: Iterable[str], now: dt.datetime) -> Rotation:
        """These names one step further."""
        return self._with({name: self.of(name).step(now) for name in names})

    def renew(self, name: str, now: dt.datetime) -> Rotation:
        return self._with({name: self.of(name).renewed(now)})

    def _with(self, changed: Mapping[str, Generation]) -> Rotation:
        return replace(self, generations={**self.generations, **changed})

    def as_json(self) -> dict[str, Any]:
        """Plain data for a file and for the stack's outputs; `from_json` reads it back."""
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
        """Raises InfraError, naming `place`, for what is no rotation."""
        try:
            unknown = value.keys() - set(NAMES)
            if unknown:
                raise InfraError(f"there is nothing called {', '.join(sorted(unknown))} to rotate")
            return cls({name: _generation(entry) for name, entry in value.items()})
        except (AttributeError, KeyError, TypeError, ValueError, InfraError) as error:
            reason = str(error) if isinstance(error, InfraError) else "not of the form that groundwork writes"
            raise InfraError(f"{place} cannot be used: {reason}; put it back from a backup") from error

    def __str__(self) -> str:
        return json.dumps(self.as_json(), indent=2)


def _generation(entry: Mapping[str, Any]) -> Generation:
    # Pulumi's state knows numbers only as such, whole or not.
    accepted = tuple(int(number) for number in entry["accepted"])
    since = entry.get("since")
    return Generation(int(entry["inUse"]), accepted, dt.datetime.fromisoformat(since) if since else None)
