"""What a rule is: an id, what it asks for and why it matters, what to do, and examples of both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.policy.resource import Resource, Resources


class Severity(StrEnum):
    """How bad it is where it does not hold; for AWS's controls as Security Hub says it."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Problem:
    """Why a rule does not hold for a resource: which property, and what is wrong with it.

    Not a violation where it cannot be said yet. `message` names no value but numbers, switches and what the rule
    itself knows: a property may be secret.
    """

    property: str
    message: str
    is_violation: bool = True


Check = Callable[[Resource, Resources], Iterable[Problem]]
Example = Sequence[Resource]


@dataclass(frozen=True)
class Rule:
    """A rule on every resource of some types: it holds where `check` has no problem to tell.

    What an `alone` rule finds violated shows on the resource itself, and so before it is made. `good` is an example in
    which it holds; each of `bad` is one in which it does not.
    """

    id: str
    title: str
    severity: Severity
    fix: str
    types: tuple[str, ...]
    check: Check
    good: Example
    bad: tuple[Example, ...]
    alone: bool

    def problems(self, resource: Resource, resources: Resources) -> list[Problem]:
        return list(self.check(resource, resources))


def rule(
    id_: str,
    title: str,
    severity: Severity,
    *,
    on: str | tuple[str, ...],
    fix: str,
    good: Example,
    bad: Sequence[Example],
    alone: bool = False,
) -> Callable[[Check], Rule]:
    """Make a rule of the function below it."""
    types = (on,) if isinstance(on, str) else on

    def of(check: Check) -> Rule:
        return Rule(id_, title, severity, fix, types, check, good, tuple(bad), alone)

    return of
