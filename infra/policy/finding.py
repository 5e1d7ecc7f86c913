"""A finding: the rule, the resource, the property, what is wrong, and how to fix it."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from enum import StrEnum

from infra.policy.rule import Severity
from infra.policy.waiver import Waiver


class Status(StrEnum):
    """The status of a finding. `undetermined` means that only `up` can decide whether it is a violation."""

    VIOLATED = "violated"
    UNDETERMINED = "undetermined"
    WAIVED = "waived"


@dataclass(frozen=True)
class Finding:
    """A finding of a rule or of the data-loss guard. It never contains a value that may be secret.

    `rule` is an id that `groundwork policy list` shows. `position` is `file:line` in the program, or empty. `waiver` is
    set if the finding is waived.
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

    # The field `property` hides the decorator of the same name.
    @builtins.property
    def resource(self) -> str:
        """The resource's name in the program."""
        return self.urn.rpartition("::")[2]
