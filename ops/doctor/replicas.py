"""The Postgres replicas of a stack in Docker."""

from __future__ import annotations

from infra.docker.engine import DockerError, psql
from infra.spec.postgres_cluster import SCOPE
from ops.doctor.check_result import STACK_OPTION, CheckResult, fail, ok, skipped, warn
from ops.doctor.examination import Examination
from ops.stack.cluster import (
    PRIMARY,
    SYNCHRONOUS,
    Cluster,
    Member,
    paused_container,
    problems,
    silent_api_problems,
)

_ADVICE = (
    f"see `groundwork cluster status{STACK_OPTION}` and `groundwork logs{STACK_OPTION}`; `groundwork up{STACK_OPTION}`"
    f" starts a stopped or frozen server, and `groundwork cluster reinit{STACK_OPTION} NAME` copies its data again"
)
# Patroni makes no slots (use_slots), and pg_basebackup makes temporary ones.
_SLOTS = "SELECT slot_name FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name"
_SLOT_ADVICE = (
    'drop a slot that you did not create with `docker exec CONTAINER psql -d postgres -c "SELECT'
    " pg_drop_replication_slot('NAME')\"`; only a server's key or the superuser can create one"
    f" (docs/security.md); `groundwork rotate certificates --authority{STACK_OPTION}` replaces the keys"
)


def replicas(examination: Examination) -> CheckResult:
    """replicas: check that each replica streams and is not far behind, and that one of them is synchronous."""
    stack = examination.stack
    if not stack.members:
        return skipped("the stack has no replicas in Docker")
    members = Cluster(stack.name, dict(stack.members)).members()
    most = examination.thresholds.replica_lag_mb_warn
    lines = [_described(member) for member in members if member.is_well]
    found = problems(members)
    found += [f"{m.name} is {m.lag_mb} MB behind" for m in members if (m.lag_mb or 0) >= most]
    found += silent_api_problems(members)
    advice = _ADVICE
    if slots := [each for member in members if member.is_well for each in _foreign_slots(member)]:
        found += slots
        advice = f"{_SLOT_ADVICE}; {_ADVICE}"
    if paused := paused_container(members):
        found.append("failover is paused: no replica is promoted")
        advice = (
            f"`docker exec {paused} patronictl resume {SCOPE}` resumes it, if no restore is running; {advice}"
        )
    if found:
        roles = {member.role for member in members if member.is_well}
        # With a primary and a synchronous replica, the stack serves, but the next failure may stop writes.
        report = warn if {PRIMARY, SYNCHRONOUS} <= roles else fail
        return report(
            found[0] if len(found) == 1 else f"{found[0]}, and {len(found) - 1} more",
            advice,
            [*found[1:], *lines],
        )
    primary = next(member.name for member in members if member.role == PRIMARY)
    return ok(f"{primary} is the primary, and {len(members) - 1} replicas stream from it", lines)


def _foreign_slots(member: Member) -> list[str]:
    """Return a problem for each slot that belongs to no member. A holder of a server's key can create one."""
    try:
        names = psql(member.container, _SLOTS, timeout_seconds=15).splitlines()
    except DockerError as error:
        return [f"the replication slots of {member.name} are not known: {str(error).splitlines()[-1]}"]
    return [f"{member.name} has the replication slot {name}, which belongs to no member" for name in names]


def _described(member: Member) -> str:
    parts = [member.role, member.state, f"timeline {member.timeline}" if member.timeline else ""]
    parts.append("" if member.lag_mb is None else f"{member.lag_mb} MB behind")
    return f"{member.name}: {', '.join(part for part in parts if part)}"
