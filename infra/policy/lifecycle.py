"""Compare S3 lifecycle rules by how long objects are kept. The rules may be in any of Pulumi's resource types."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra.policy.value import UNKNOWN, as_number, is_number

# The filter of a rule that applies to every object.
_EVERYTHING = "{}"


@dataclass(frozen=True)
class _Kept:
    """Limits on how long objects are kept.

    `days` and `noncurrent_days` are how many days objects and their old versions are kept. `versions` is the number of
    old versions that are kept. `dates` are the days on which all objects are deleted.
    """

    days: float = math.inf
    noncurrent_days: float = math.inf
    versions: float = math.inf
    dates: frozenset[str] = frozenset()

    def at_most(self, other: _Kept) -> _Kept:
        return _Kept(
            min(self.days, other.days),
            min(self.noncurrent_days, other.noncurrent_days),
            min(self.versions, other.versions),
            self.dates | other.dates,
        )


def expires_sooner(before: Any, after: Any) -> object:
    """Return whether the rules `after` keep any object or version for a shorter time than `before`.

    Returns UNKNOWN if that cannot be determined. Rules with the same filter are compared. A rule with a new filter is
    compared with the old rule for all objects.
    """
    old, new = _by_filter(before), _by_filter(after)
    if old is None or new is None:
        return UNKNOWN
    everything = old.get(_EVERYTHING, _Kept())
    return any(_is_less(kept, old.get(scope, _Kept()).at_most(everything)) for scope, kept in new.items())


def _is_less(new: _Kept, old: _Kept) -> bool:
    return (
        new.days < old.days
        or new.noncurrent_days < old.noncurrent_days
        or new.versions < old.versions
        or not new.dates <= old.dates
    )


def _by_filter(rules: Any) -> dict[str, _Kept] | None:
    """Combine the rules of each filter. Returns None for rules in an unknown format."""
    found: dict[str, _Kept] = {}
    for rule in rules or ():
        if not isinstance(rule, Mapping):
            return None
        if rule.get("status") == "Enabled" or rule.get("enabled") in (True, "true"):
            scope, kept = _scope(rule), _kept(rule)
            if kept is None:
                return None
            found[scope] = found.get(scope, _Kept()).at_most(kept)
    return found


def _scope(rule: Mapping[str, Any]) -> str:
    """Return the filter as text, without empty parts: an empty prefix filters nothing."""
    filters = {**(rule.get("filter") or {}), "tags": rule.get("tags")}
    filters["prefix"] = filters.get("prefix") or rule.get("prefix")
    return json.dumps({name: value for name, value in filters.items() if value}, sort_keys=True)


def _kept(rule: Mapping[str, Any]) -> _Kept | None:
    expirations = [*_each(rule, "expiration")]
    old_versions = [*_each(rule, "noncurrentVersionExpiration")]
    days = [as_number(each["days"]) for each in expirations if each.get("days")]
    noncurrent = [as_number(each.get("noncurrentDays") or each.get("days")) for each in old_versions]
    versions = [as_number(each.get("newerNoncurrentVersions") or 0) for each in old_versions]
    if not all(map(is_number, (*days, *noncurrent, *versions))):
        return None
    dates = frozenset(str(each["date"]) for each in expirations if each.get("date"))
    return _Kept(
        min(days, default=math.inf), min(noncurrent, default=math.inf), min(versions, default=math.inf), dates
    )


def _each(rule: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """Yield a block of a rule. The older resource types have a list of blocks."""
    for each in (rule.get(name), *(rule.get(f"{name}s") or ())):
        if isinstance(each, Mapping):
            yield each
