"""The lock of the commands that change a stack's servers. Only one of them runs at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.spec.checkout import Checkout
from infra.state_folder import make_private
from ops.chaos.undo import FaultLeft, undo_left
from ops.file_lock import file_lock
from ops.output import print_message


@contextmanager
def changing(
    checkout: Checkout, stack: str, command: str, *, removes_servers: bool = False
) -> Iterator[None]:
    """Lock out other commands that change the stack. First undo the faults that a killed run of chaos has left.

    A command that removes the servers continues with a warning if a fault cannot be undone. Raise OpsError (5) if such
    a command, or chaos, is running. The kernel releases the lock when the process ends.
    """
    # Before the lock, because its message says how to end a run.
    try:
        undo_left(checkout, stack, command, print_message)
    except FaultLeft as error:
        # Only a file of `fill` outlives the servers. Its entry in the journal stays too.
        if not removes_servers:
            raise
        print_message(f"warning: {error}")
    path = _path(checkout, stack)
    make_private(checkout, path.parent)

    def refusal(holder: str) -> str:
        return (
            f"stack {stack!r} is being changed by {holder or 'another command'}; wait until it has finished"
        )

    with file_lock(path, f"`groundwork {command}` (process {os.getpid()})", refusal):
        yield


def holder(checkout: Checkout, stack: str) -> str | None:
    """Return the command that holds the lock, as in "`groundwork up` (process 12)", or None."""
    try:
        with _path(checkout, stack).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read()
    except FileNotFoundError:
        pass
    return None


def _path(checkout: Checkout, stack: str) -> Path:
    return checkout.stack_dir(stack) / "change.lock"
