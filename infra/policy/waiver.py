"""Waivers: a reviewed file that lets findings of one resource pass, for a reason and until a day.

infra/policy/waivers/STACK.yaml holds a stack's. What is wrong with the file is an error, and nothing is waived.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.spec.errors import InfraError

FOLDER = Path(__file__).parent / "waivers"
# A waiver is looked at again once a year, or it is no waiver but a rule nobody keeps.
LONGEST_DAYS = 366
_KEYS = frozenset({"urn", "rules", "reason", "expires"})


class WaiverError(InfraError):
    """A file of waivers says something that is none."""


@dataclass(frozen=True)
class Waiver:
    """Lets the findings of `rules` on the resource `urn` pass through the day `expires`."""

    urn: str
    rules: tuple[str, ...]
    reason: str
    expires: datetime.date

    def covers(self, urn: str, rule: str) -> bool:
        return self.urn == urn and rule in self.rules

    def is_expired(self, on: datetime.date) -> bool:
        return on > self.expires


def today() -> datetime.date:
    """The day by which waivers expire: the same wherever it is asked."""
    return datetime.datetime.now(datetime.UTC).date()


def waivers_of(stack: str) -> Path:
    """The file of a stack's waivers; most have none."""
    return FOLDER / f"{stack}.yaml"


def read_waivers(path: Path, rules: Collection[str], on: datetime.date) -> tuple[Waiver, ...]:
    """The waivers of a file; `rules` are the ids there are, `on` is today. WaiverError names the entry and the fix."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise WaiverError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise WaiverError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    entries = content.get("waivers") if isinstance(content, dict) else None
    if not isinstance(entries, list) or content.keys() != {"waivers"}:
        raise WaiverError(f"{path}: has to be a mapping with one key, `waivers`, a list")
    return tuple(_waiver(f"{path}: waiver {n}", entry, rules, on) for n, entry in enumerate(entries, 1))


def _waiver(where: str, entry: Any, rules: Collection[str], on: datetime.date) -> Waiver:
    if not isinstance(entry, Mapping) or set(entry) != _KEYS:
        raise WaiverError(f"{where}: has to have {', '.join(sorted(_KEYS))}, and nothing else")
    urn, waived, reason, expires = (entry[key] for key in ("urn", "rules", "reason", "expires"))
    if not isinstance(urn, str) or not urn.startswith("urn:pulumi:"):
        raise WaiverError(f"{where}: urn has to be a resource's URN, as the finding shows it")
    if not isinstance(waived, list) or not waived:
        raise WaiverError(f"{where}: rules has to be a list of rules' ids, as the findings show them")
    if unknown := [each for each in waived if each not in rules]:
        raise WaiverError(f"{where}: there is no rule {unknown[0]!r}; `groundwork policy list` has all")
    if not isinstance(reason, str) or not reason.strip():
        raise WaiverError(f"{where}: reason has to say why")
    if not isinstance(expires, datetime.date) or isinstance(expires, datetime.datetime):
        raise WaiverError(f"{where}: expires has to be a date, like {on + datetime.timedelta(days=30)}")
    if (expires - on).days > LONGEST_DAYS:
        raise WaiverError(f"{where}: expires in more than a year; make it {LONGEST_DAYS} days at most")
    return Waiver(urn, tuple(waived), " ".join(reason.split()), expires)
