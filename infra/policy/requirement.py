"""Functions that return the checks of the rules' table. An unknown value never passes a check.

`must("multiAz", be(True))` checks a property with a test. A test gets a known value, and returns what is wrong or "".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from infra.policy.resource import References, Resource, Resources
from infra.policy.rule import Check, Problem
from infra.policy.value import UNKNOWN, as_bool, as_number, is_number

_NOT_KNOWN = "not known before `up`"
_PARAMETER_GROUP = "parameterGroupName"

Test = Callable[[Any], str]


def must(property_: str, *tests: Test, default: Any = None) -> Check:
    """Require that a property passes the tests. `default` is the provider's value for a property that is not set."""

    def check(resource: Resource, resources: Resources) -> Iterator[Problem]:
        value = resource.get(property_)
        yield from _tested(property_, default if value is None else value, tests)

    return check


def must_name(property_: str, type_: str, why: str) -> Check:
    """Require that a property names a resource of the stack, or any resource outside of it."""

    def check(resource: Resource, resources: Resources) -> Iterator[Problem]:
        named = resources.named_by(resource, property_, type_)
        if not (named.is_complete and named.found):
            yield from must(property_, be_set(why))(resource, resources)

    return check


def must_not_be_set(property_: str) -> Check:
    """Require that a property is not set. An unknown or secret value is a violation too."""

    def check(resource: Resource, resources: Resources) -> Iterator[Problem]:
        if resource.get(property_) not in (None, ""):
            yield Problem(property_, "must not be set")

    return check


def must_not_be_of(types: Sequence[str], why: str) -> Check:
    """Require that a resource is not of one of the types."""
    return lambda resource, _: [Problem("type", why)] if resource.type in types else ()


def parameter_must(
    group_type: str,
    name: str,
    *tests: Test,
    missing: str = "",
    label: str = "{name}",
    default: str | None = None,
) -> Check:
    """Require that a parameter of a server's parameter group passes the tests.

    `missing` is the message for a server without a group. `label` is how messages name the parameter. `default` is the
    value of a group that does not set it.
    """

    def check(server: Resource, resources: Resources) -> Iterator[Problem]:
        if server.get(_PARAMETER_GROUP) is None:
            yield Problem(_PARAMETER_GROUP, missing or "must name a parameter group of the stack")
        elif (group := the_one(resources.named_by(server, _PARAMETER_GROUP, group_type))) is None:
            yield outside(_PARAMETER_GROUP, "the parameter group")
        else:
            text = label.format(name=name, group=group.name)
            value = _parameter(group, name)
            yield from _tested(_PARAMETER_GROUP, default if value is None else value, tests, f"{text} ")

    return check


def be(wanted: bool | str) -> Test:
    shown = str(wanted).lower() if isinstance(wanted, bool) else repr(wanted)
    return lambda value: "" if as_bool(value) == wanted else f"must be {shown}"


def be_set(why: str = "must be set") -> Test:
    return lambda value: why if value in (None, "", []) else ""


def be_text() -> Test:
    """Require a text. Any other value, or none, is undetermined."""
    return lambda value: "" if isinstance(value, str) else _NOT_KNOWN


def be_at_least(minimum: int) -> Test:
    def test(value: Any) -> str:
        number = as_number(value)
        return "" if is_number(number) and number >= minimum else f"must be {minimum} or more"

    return test


def be_one_of(values: Sequence[str], why: str) -> Test:
    return lambda value: "" if str(value) in values else why


def be_none_of(values: Sequence[str | int], why: str) -> Test:
    """Refuse the given values. A number may be written as text, and case does not matter."""
    return lambda value: (
        why if as_number(value.lower() if isinstance(value, str) else value) in values else ""
    )


def include(wanted: str) -> Test:
    """Require that a list of texts contains a text."""

    def test(value: Any) -> str:
        values = value if isinstance(value, list) else []
        if wanted in values:
            return ""
        return _NOT_KNOWN if UNKNOWN in values else f"must include {wanted!r}"

    return test


def unknown(property_: str) -> Problem:
    return Problem(property_, _NOT_KNOWN, is_violation=False)


def outside(property_: str, what: str) -> Problem:
    """Return the problem that a property refers to something that is unknown before `up`, or outside the stack."""
    return Problem(property_, f"{what} is not known before `up`, or not in this stack", is_violation=False)


def the_one(references: References) -> Resource | None:
    """Return the only resource that a property names, or None if that cannot be determined."""
    return references.found[0] if references.is_complete and len(references.found) == 1 else None


def _tested(property_: str, value: Any, tests: Sequence[Test], subject: str = "") -> Iterator[Problem]:
    """Yield the first problem that a test finds."""
    wrong = _NOT_KNOWN if value is UNKNOWN else next(filter(None, (test(value) for test in tests)), "")
    if wrong == _NOT_KNOWN:
        yield unknown(property_)
    elif wrong:
        yield Problem(property_, f"{subject}{wrong}")


def _parameter(group: Resource, name: str) -> Any:
    """Return a parameter's value in a parameter group, None if it is not set, or UNKNOWN."""
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
