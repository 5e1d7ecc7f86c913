"""A process beside a run that undoes its faults if the run is killed, or does not undo them in time.

It runs in a session of its own, so that neither Ctrl-C nor the end of the terminal ends it. Its standard input is a
pipe from the run, which the kernel closes when the run ends in any way.
"""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from infra.spec.checkout import Checkout
from ops.chaos.journal import Journal
from ops.chaos.target import injector_of
from ops.chaos.undo import LOCK_SECONDS, undo, undo_all
from ops.errors import OpsError

# The run itself undoes a fault within this time.
_GRACE_SECONDS = 60.0
_POLL_SECONDS = 5.0
# The run sends this if nothing is left to undo.
_DONE = b"."


@contextmanager
def watched(checkout: Checkout, stack: str) -> Iterator[None]:
    """Run the watchdog during the block, whose run holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.chaos.watchdog", stack],
        cwd=checkout.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        if Journal(checkout, stack).active():
            # The watchdog undoes the rest when the run has ended and its lock is free.
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.communicate(_DONE)


def watch(checkout: Checkout, stack: str) -> None:
    """Wait for the end of the run, and undo what it has left."""
    journal, injector = Journal(checkout, stack), injector_of(checkout, stack)
    while not select.select([sys.stdin], [], [], _POLL_SECONDS)[0]:
        for active in journal.active():
            if time.time() > active.until + _GRACE_SECONDS:
                with suppress(OpsError):
                    undo(journal, injector, active)
    if sys.stdin.buffer.read(1) == _DONE:
        return
    with journal.lock("chaos (watchdog)", LOCK_SECONDS):
        undo_all(checkout, stack, lambda _: None)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(Checkout.here(), sys.argv[1])
