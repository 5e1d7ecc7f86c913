"""Who may do what in the application's database, beside what the specification and the migrations grant."""

from __future__ import annotations

from ops import granted
from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, counted, fail, ok, skipped
from ops.doctor.migrations import ledger_state
from ops.server_errors import NotVisible


def grants(examination: Examination) -> Finding:
    """grants: db/grants.lock.json holds what a database has after every migration."""
    try:
        state = ledger_state(examination)
        if state.pending or state.problems:
            return skipped("the schema is at another version; see the check migrations")
    except NotVisible:
        pass  # The versions are not seen here; the grants are.
    locked = set(granted.locked()[1])
    live = {row["line"] for row in examination.postgres.rows(granted.QUERY)}
    wrong = [f"missing: {line}" for line in sorted(locked - live)]
    wrong += [f"too much: {line}" for line in sorted(live - locked)]
    if wrong:
        return fail(
            f"{counted(len(wrong), 'difference')} from what the migrations grant",
            "GRANT or REVOKE it as role migrator (`groundwork psql --role migrator`); what was meant belongs"
            " into a migration",
            wrong,
        )
    return ok(f"{len(locked)} grants are as the migrations made them")
