"""Functions that check one property of a resource and yield its problems. An unknown value never passes a check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from infra.policy.resource import References, Resource, Resources
from infra.policy.rule import Problem
from infra.policy.value import UNKNOWN, as_bool, as_number, is_number

NOT_KNOWN = "not known before `up`"


def unknown(property_: str) -> Problem:
    return Problem(property_, NOT_KNOWN, is_violation=False)


def must_be(
    resource: Resource, property_: str, wanted: bool | str, *, default: Any = None
) -> Iterator[Problem]:
    """Check a property's value. `default` is the provider's value for a property that is not set."""
    value = as_bool(resource.get(property_))
    if value is None:
        value = default
    if value is UNKNOWN:
        yield unknown(property_)
    elif value != wanted:
        yield Problem(property_, f"must be {_shown(wanted)}")


def must_be_set(resource: Resource, property_: str, why: str = "must be set") -> Iterator[Problem]:
    value = resource.get(property_)
    if value is UNKNOWN:
        yield unknown(property_)
    elif value in (None, "", []):
        yield Problem(property_, why)


def must_name(
    resource: Resource, property_: str, resources: Resources, type_: str, why: str
) -> Iterator[Problem]:
    """Check that a property names a resource of the stack, or any resource outside of it."""
    named = resources.named_by(resource, property_, type_)
    if not (named.is_complete and named.found):
        yield from must_be_set(resource, property_, why)


def must_not_be_set(resource: Resource, *properties: str) -> Iterator[Problem]:
    """Check that properties are not set. An unknown or secret value is a violation too."""
    for property_ in properties:
        if resource.get(property_) not in (None, ""):
            yield Problem(property_, "must not be set")


def must_be_at_least(
    resource: Resource, property_: str, minimum: int, *, default: int = 0
) -> Iterator[Problem]:
    value = as_number(resource.get(property_))
    if value is None:
        value = default
    if value is UNKNOWN:
        yield unknown(property_)
    elif not is_number(value) or value < minimum:
        yield Problem(property_, f"must be {minimum} or more")


def must_include(resource: Resource, property_: str, wanted: str) -> Iterator[Problem]:
    """Check that a list of texts contains a text."""
    value = resource.get(property_)
    values = value if isinstance(value, list) else []
    if wanted in values:
        return
    if value is UNKNOWN or UNKNOWN in values:
        yield unknown(property_)
    else:
        yield Problem(property_, f"must include {wanted!r}")


def the_one(references: References, property_: str, what: str) -> tuple[Resource | None, Sequence[Problem]]:
    """Return the resource that a property names, or the problem that it cannot be determined."""
    if references.is_complete and len(references.found) == 1:
        return references.found[0], ()
    return None, [outside(property_, what)]


def outside(property_: str, what: str) -> Problem:
    """Return the problem that a property names something that is not known yet, or not part of this stack."""
    return Problem(property_, f"{what} is not known before `up`, or not in this stack", is_violation=False)


def parameter(group: Resource, name: str) -> Any:
    """Return the value of a parameter in a parameter group, None if it is not set, UNKNOWN if that is not known."""
    entries = group.get("parameters")
    if entries is None:
        return None
    if not isinstance(entries, list):
        return UNKNOWN
    values = [e.get("value", UNKNOWN) for e in entries if isinstance(e, dict) and e.get("name") == name]
    if values:
        return values[-1]
    hidden = any(not isinstance(e, dict) or e.get("name") is UNKNOWN for e in entries)
    return UNKNOWN if hidden else None


def _shown(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
