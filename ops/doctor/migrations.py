"""The schema's version: migrations that are pending, unfinished, or edited after they were applied."""

from __future__ import annotations

from db.migrator import MigrationStatus, read_source, read_status
from ops.doctor.check_result import STACK_OPTION, CheckResult, counted, fail, ok, warn
from ops.doctor.examination import Examination
from ops.servers.errors import NotVisible


def migrations(examination: Examination) -> CheckResult:
    """migrations: compare the ledger with the folder, as role migrator, because role monitor may not read it."""
    state = ledger_state(examination)
    if state.problems:
        return fail(
            f"{counted(len(state.problems), 'problem')} with applied migrations",
            f"see `groundwork migrate status{STACK_OPTION}`; no migration can be applied until this is fixed",
            [text for _, text in state.problem_lines()],
        )
    if state.pending:
        names = [migration.name for migration in state.pending]
        return warn(f"{len(names)} pending: {', '.join(names)}", f"run `groundwork migrate up{STACK_OPTION}`")
    return ok(f"at version {state.version}, nothing pending")


def ledger_state(examination: Examination) -> MigrationStatus:
    """Return the migrator's own comparison. Raise NotVisible if the stack has no URL for role migrator."""
    if examination.migrator is None:
        raise NotVisible("only role migrator can read the ledger, and the stack has no URL for this role")
    source = read_source(examination.stack.migrations)
    return examination.migrator.ask(lambda connection: read_status(connection, source))
