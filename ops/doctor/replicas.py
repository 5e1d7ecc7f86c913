"""The Postgres replicas of a stack in Docker."""

from __future__ import annotations

from ops.doctor.check_result import STACK_OPTION, CheckResult, fail, ok, skipped, warn
from ops.doctor.examination import Examination

_ADVICE = (
    f"see `groundwork cluster status{STACK_OPTION}` and `groundwork logs{STACK_OPTION}`; start a stopped container with"
    " `docker start`, a frozen one with `docker unpause`"
)


def replicas(examination: Examination) -> CheckResult:
    """replicas: check that each replica streams, and that one of them is synchronous."""
    from ops.stack.cluster import PRIMARY, SYNCHRONOUS, Cluster, problems

    stack = examination.stack
    if not stack.members:
        return skipped("the stack has no replicas in Docker")
    members = Cluster(stack.name, dict(stack.members)).members()
    if found := problems(members):
        roles = {member.role for member in members if member.is_well}
        # With a primary and a synchronous replica, the stack serves, but the next failure may stop writes.
        report = warn if {PRIMARY, SYNCHRONOUS} <= roles else fail
        return report(
            found[0] if len(found) == 1 else f"{found[0]}, and {len(found) - 1} more", _ADVICE, found
        )
    primary = next(member.name for member in members if member.role == PRIMARY)
    return ok(f"{primary} is the primary, and {len(members) - 1} replicas stream from it")
