"""How long S3 keeps objects by its lifecycle rules, in whichever resource they are written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra.policy.value import UNKNOWN, as_number, is_number

# The filter of a rule that is about every object.
_EVERYTHING = "{}"


@dataclass(frozen=True)
class _Kept:
    """Days that objects and their old versions are kept, old versions that stay, and days on which all is deleted."""

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
    """Whether any object, or a version of one, is kept for a shorter time by the rules `after`; UNKNOWN if unsaid.

    Rules are compared by their filters: what one with another filter expires was kept as by the rule for everything.
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
    """What each filter's rules come to; None where they are not written as S3's rules are."""
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
    """Without what the provider leaves empty: a filter of an empty prefix is none."""
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
    """A block, which the older resources have as a list."""
    for each in (rule.get(name), *(rule.get(f"{name}s") or ())):
        if isinstance(each, Mapping):
            yield each
