"""What is found in a plan: which rule, which resource, which property, and what to do about it."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from enum import StrEnum

from infra.policy.rule import Severity
from infra.policy.waiver import Waiver


class Status(StrEnum):
    """`undetermined` is what cannot be said before `up`: never good, and not proven bad."""

    VIOLATED = "violated"
    UNDETERMINED = "undetermined"
    WAIVED = "waived"


@dataclass(frozen=True)
class Finding:
    """One thing found, by a rule or by the firewall; no part of it is a value that may be secret.

    `rule` is the id that `groundwork policy list` explains, `position` is `file:line` of the program or empty,
    `waiver` is why a waived one does not count.
    """

    rule: str
    title: str
    severity: Severity
    status: Status
    urn: str
    property: str
    message: str
    fix: str
    position: str = ""
    waiver: Waiver | None = None

    # A field is named as the plan names it, and hides the decorator.
    @builtins.property
    def resource(self) -> str:
        """The resource's name in the program."""
        return self.urn.rpartition("::")[2]
