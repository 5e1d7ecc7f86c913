"""The definition of a rule: its id, title, severity, checks and fix, with examples that pass and that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.policy.resource import Resource, Resources


class Severity(StrEnum):
    """The severity of a violation. AWS's own controls have the severity of Security Hub."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Problem:
    """A reason why a resource does not comply with a rule: the property, and what is wrong with it.

    `is_violation` is False if only `up` can decide. `message` contains no property values other than numbers, switches
    and values that the rule itself names, because a property may be secret.
    """

    property: str
    message: str
    is_violation: bool = True


Check = Callable[[Resource, Resources], Iterable[Problem]]
Example = Sequence[Resource]


@dataclass(frozen=True)
class Rule:
    """A rule for every resource of some types. A resource complies if no check yields a problem.

    `good` is an example that complies, and each of `bad` is one that does not. An `alone` rule needs only the resource
    itself, so it can stop an `up` before the resource is created.
    """

    id: str
    title: str
    severity: Severity
    types: tuple[str, ...]
    checks: Sequence[Check]
    fix: str
    good: Example
    bad: Sequence[Example]
    alone: bool = False

    def problems(self, resource: Resource, resources: Resources) -> list[Problem]:
        return [problem for check in self.checks for problem in check(resource, resources)]
