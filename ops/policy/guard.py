"""The check before an `up` on AWS: a preview must satisfy the rules, and must not lose data without a waiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.policy.finding import Status
from infra.policy.waiver import today
from ops.errors import OpsError
from ops.output import print_line
from ops.policy import source
from ops.policy.assessment import Assessment, check_losses, check_policy
from ops.policy.text import findings_of, notes_of

if TYPE_CHECKING:
    from ops.stack.pulumi_stack import PulumiStack


def refuse_unsafe_up(target: PulumiStack) -> None:
    """Preview an `up`, print the findings to stderr, and return if the `up` is safe.

    Raise OpsError: 7 if data would be lost, 4 if a rule is violated. What only the `up` can show is reported, and
    checked by the policy pack during the `up`.
    """
    print_line("previewing: checking rules and data loss ...", err=True)
    plan = source.plan_of(target.preview_json(), target.name)
    day = today()
    waivers = source.read_stack_waivers(target.name, None, day)
    losses, rules = check_losses(plan, waivers, day), check_policy(plan, waivers, day)
    for assessment in (losses, rules):
        for line in (*findings_of(assessment), *notes_of(assessment)):
            print_line(line, err=True)
    if losses.exit_code:
        raise OpsError(
            f"refusing to update stack {target.name!r}: it would lose data or its protection:"
            f" {_counted(losses, 'finding')} (listed above); fix them or add waivers (docs/policy.md)",
            losses.exit_code,
        )
    if rules.counts[Status.VIOLATED]:
        raise OpsError(
            f"refusing to update stack {target.name!r}: {_counted(rules, 'policy violation')} (listed above);"
            " fix them or add waivers (docs/policy.md)",
            rules.exit_code,
        )


def _counted(assessment: Assessment, noun: str) -> str:
    """Count the findings that are not waived, such as "3 policy violations, 1 undetermined"."""
    violated, undetermined = (assessment.counts[status] for status in (Status.VIOLATED, Status.UNDETERMINED))
    counted = [f"{violated} {noun}{'' if violated == 1 else 's'}"] if violated else []
    counted += [f"{undetermined} undetermined"] if undetermined else []
    return ", ".join(counted)
