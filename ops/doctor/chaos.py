"""Faults of `groundwork chaos` that are in effect."""

from __future__ import annotations

from infra.spec.checkout import Checkout
from ops.chaos.journal import Journal
from ops.doctor.check_result import STACK_OPTION, CheckResult, counted, fail, ok, skipped, warn
from ops.doctor.examination import Examination


def faults(examination: Examination) -> CheckResult:
    """chaos: check that no fault of a killed run is left."""
    stack = examination.stack
    if stack.postgres_container is None:
        return skipped("the stack is not in Docker")
    journal = Journal(Checkout.here(), stack.name)
    if not (active := journal.active()):
        return ok("no fault of `groundwork chaos` is in effect")
    details = [str(each) for each in active]
    found = counted(len(active), "fault")
    if (holder := journal.holder()) is not None:
        text = "of a running `groundwork chaos`" if holder.is_run else f"that {holder} undoes"
        return warn(f"{found} {text}", "wait until it has finished", details)
    return fail(
        f"{found} of a killed `groundwork chaos`", f"run `groundwork chaos stop{STACK_OPTION}`", details
    )
