"""What stands before an `up` on AWS: a preview that keeps the rules, and loses nothing that is not waived."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from infra.policy.finding import Status
from infra.policy.waiver import today
from ops.errors import OpsError
from ops.policy import source
from ops.policy.assessment import Assessment, check_losses, check_policy
from ops.policy.text import findings_of, notes_of

if TYPE_CHECKING:
    from ops.pulumi_stack import PulumiStack


def refuse_unsafe_up(target: PulumiStack) -> None:
    """Preview, and return where an `up` may follow; what was found is on stderr.

    OpsError (7) where data would be lost, (4) where a rule does not hold. What only an `up` will show is told, and
    left to the policy pack that the `up` is run with.
    """
    print("previewing: rules and loss of data ...", file=sys.stderr)
    plan = source.plan_of(target.preview_json(), target.name)
    day = today()
    waivers = source.read_stack_waivers(target.name, None, day)
    losses, rules = check_losses(plan, waivers, day), check_policy(plan, waivers, day)
    for assessment in (losses, rules):
        for line in (*findings_of(assessment), *notes_of(assessment)):
            print(line, file=sys.stderr)
    if losses.exit_code:
        raise OpsError(
            f"up of stack {target.name!r} is refused: it would lose data, or what guards it"
            f" ({_counted(losses)}, above); waive what has to be: docs/policy.md",
            losses.exit_code,
        )
    if rules.counts[Status.VIOLATED]:
        raise OpsError(
            f"up of stack {target.name!r} is refused: it would not be as it has to be ({_counted(rules)}, above);"
            " mend it, or waive it: docs/policy.md",
            rules.exit_code,
        )


def _counted(assessment: Assessment) -> str:
    return ", ".join(f"{n} {status.value}" for status, n in assessment.counts.items() if n)
