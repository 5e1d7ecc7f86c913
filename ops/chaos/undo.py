"""Undo what a run has left: its faults from the journal, and the rows of its load."""

from __future__ import annotations

import time
from collections.abc import Callable

from infra.docker import ownership
from infra.docker.engine import DockerError
from infra.spec.checkout import Checkout
from ops.chaos.faults import FaultInjector
from ops.chaos.journal import ActiveFault, Journal
from ops.errors import Exit, OpsError

# A run that is interrupted waits for the command that it is running, such as a restart.
LOCK_SECONDS = 240.0
_ATTEMPTS = 3
_PAUSE_SECONDS = 2.0


class FaultLeft(OpsError):
    """A fault could not be undone, and stays in the journal."""

    exit_code = Exit.UNREACHABLE


def undo(journal: Journal, injector: FaultInjector, active: ActiveFault) -> None:
    """Undo a fault, and delete its entry. Raise FaultLeft if Docker fails."""
    recorded = journal.recorded(active)
    if recorded is None:
        # The watchdog has undone the fault of a run that hung.
        return
    for left in reversed(range(_ATTEMPTS)):
        try:
            injector.undo(recorded)
        except DockerError as error:
            if left:
                time.sleep(_PAUSE_SECONDS)
                continue
            raise FaultLeft(
                f"cannot undo the {active}: {error}; run `groundwork chaos stop --stack {journal.stack}` when the cause"
                " is fixed"
            ) from error
        journal.remove(active)
        return


def undo_all(checkout: Checkout, stack: str, say: Callable[[str], None]) -> None:
    """Undo every fault in the journal, whose lock the caller holds. Raise FaultLeft for the first that fails."""
    journal = Journal(checkout, stack)
    if not (found := journal.active()):
        return
    from ops.chaos.target import injector_of

    ownership.require_own(checkout, stack)
    injector = injector_of(checkout, stack)
    failures: list[FaultLeft] = []
    for active in found:
        try:
            undo(journal, injector, active)
            say(f"undid the {active}, which an interrupted run of `groundwork chaos` had left")
        except FaultLeft as error:
            failures.append(error)
    if failures:
        raise failures[0]


def undo_left(checkout: Checkout, stack: str, command: str, say: Callable[[str], None]) -> None:
    """Undo the faults that a killed run has left, before `command` begins.

    Costs nothing for a stack on which chaos never ran. Raise OpsError: 5 during a run, else as `undo_all`.
    """
    journal = Journal(checkout, stack)
    if not journal.folder.exists():
        return
    with journal.lock(command):
        undo_all(checkout, stack, say)


def delete_left_rows(journal: Journal, database_url: Callable[[], str]) -> bool:
    """Delete the rows of a killed run's load. Return whether there may have been any. Raise OpsError."""
    if not journal.has_rows:
        return False
    from ops.chaos.load import delete_rows

    delete_rows(database_url(), journal.stack)
    journal.forget_rows()
    return True
