"""The application database's privileges compared with those of the specification and the migrations."""

from __future__ import annotations

from infra.spec.roles import REPLICATOR
from ops.doctor.check_result import STACK_OPTION, CheckResult, counted, fail, ok, skipped
from ops.doctor.examination import Examination
from ops.doctor.migrations import ledger_state
from ops.servers.errors import NotVisible
from ops.sql_check.grants import QUERY, locked

# Only in a stack with replicas, whose migrations do not know the role.
_OF_MEMBERS = f"{REPLICATOR} may CONNECT database postgres"


def grants(examination: Examination) -> CheckResult:
    """grants: compare with db/grants.lock.json, which lists the privileges after all migrations."""
    try:
        state = ledger_state(examination)
        if state.pending or state.problems:
            return skipped("the schema is not at the latest version; see check `migrations`")
    except NotVisible:
        pass  # The ledger is not visible, but the privileges are.
    recorded = set(locked()[1])
    live = {row["line"] for row in examination.postgres.rows(QUERY)}
    if examination.stack.members:
        live.discard(_OF_MEMBERS)
    wrong = [f"missing: {line}" for line in sorted(recorded - live)]
    wrong += [f"extra: {line}" for line in sorted(live - recorded)]
    if wrong:
        return fail(
            f"{counted(len(wrong), 'difference')} from the privileges that the migrations grant",
            f"run `groundwork up{STACK_OPTION}` to reset default privileges (`every new`) that are not the owner's;"
            f" GRANT or REVOKE the others in `groundwork psql{STACK_OPTION} --role migrator`;"
            " put an intended change into a migration",
            wrong,
        )
    return ok(f"{len(recorded)} privileges match the migrations")
