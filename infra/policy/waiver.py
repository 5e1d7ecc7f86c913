"""Waivers: a reviewed file that accepts findings of a resource, with a reason and an expiry date.

A stack's waivers are in infra/policy/waivers/STACK.yaml. If the file has an error, the error is reported and nothing
is waived.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.spec.errors import InfraError, UnreadableFile
from infra.text_file import read_text

FOLDER = Path(__file__).parent / "waivers"
# Waivers must be reviewed at least once a year.
LONGEST_DAYS = 366
_KEYS = frozenset({"urn", "rules", "reason", "expires"})


class WaiverError(InfraError):
    """A file of waivers cannot be read, or is invalid."""


@dataclass(frozen=True)
class Waiver:
    """Accepts the findings of `rules` for the resource `urn`, up to and including the day `expires`."""

    urn: str
    rules: tuple[str, ...]
    reason: str
    expires: datetime.date

    def covers(self, urn: str, rule: str) -> bool:
        return self.urn == urn and rule in self.rules

    def is_expired(self, on: datetime.date) -> bool:
        return on > self.expires


def today() -> datetime.date:
    """Return today's date in UTC, so that waivers expire at the same time everywhere."""
    return datetime.datetime.now(datetime.UTC).date()


def waivers_of(stack: str) -> Path:
    """Return the path of a stack's waivers. Most stacks do not have this file."""
    return FOLDER / f"{stack}.yaml"


def read_waivers(path: Path, rules: Collection[str], on: datetime.date) -> tuple[Waiver, ...]:
    """Read the waivers of a file. `rules` are the valid ids, `on` is today.

    Raises WaiverError, which names the entry and says what to do.
    """
    import yaml

    try:
        text = read_text(path)
        content, duplicate = yaml.safe_load(text), _duplicate_key(text)
    except UnreadableFile as error:
        raise WaiverError(str(error)) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise WaiverError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        # Such as a date that does not exist.
        raise WaiverError(f"{path}: contains an invalid value: {error}") from error
    if duplicate is not None:
        raise WaiverError(f"{path}: contains the key {duplicate!r} twice in one mapping; merge the two")
    entries = content.get("waivers") if isinstance(content, dict) else None
    if not isinstance(entries, list) or content.keys() != {"waivers"}:
        raise WaiverError(f"{path}: must be a mapping with the single key `waivers`, a list")
    return tuple(_waiver(f"{path}: waiver {n}", entry, rules, on) for n, entry in enumerate(entries, 1))


def _duplicate_key(text: str) -> str | None:
    """Return a key that the file or one of its waivers has twice. YAML's loader keeps only the last value."""
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    lists = [value for _, value in root.value if isinstance(value, yaml.SequenceNode)]
    for mapping in (root, *(entry for each in lists for entry in each.value)):
        if isinstance(mapping, yaml.MappingNode):
            keys = [key.value for key, _ in mapping.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                return str(twice[0])
    return None


def _waiver(where: str, entry: Any, rules: Collection[str], on: datetime.date) -> Waiver:
    if not isinstance(entry, Mapping) or set(entry) != _KEYS:
        raise WaiverError(f"{where}: must have the keys {', '.join(sorted(_KEYS))}, and no others")
    urn, waived, reason, expires = (entry[key] for key in ("urn", "rules", "reason", "expires"))
    if not isinstance(urn, str) or not urn.startswith("urn:pulumi:"):
        raise WaiverError(f"{where}: urn must be a resource's URN, as shown in the finding")
    if not isinstance(waived, list) or not waived:
        raise WaiverError(f"{where}: rules must be a list of rule ids, as shown in the findings")
    if unknown := [each for each in waived if not isinstance(each, str) or each not in rules]:
        raise WaiverError(f"{where}: there is no rule {unknown[0]!r}; `groundwork policy list` lists all")
    if not isinstance(reason, str) or not any(map(str.isalpha, reason)):
        raise WaiverError(f"{where}: reason must not be empty or a placeholder; say why this is accepted")
    if not isinstance(expires, datetime.date) or isinstance(expires, datetime.datetime):
        raise WaiverError(f"{where}: expires must be a date, like {on + datetime.timedelta(days=30)}")
    if (expires - on).days > LONGEST_DAYS:
        raise WaiverError(f"{where}: expires in more than a year; set a date within {LONGEST_DAYS} days")
    return Waiver(urn, tuple(waived), " ".join(reason.split()), expires)
