"""Faults that are in effect, recorded on the disk before they begin, and the lock of the run that causes them.

A fault is recorded in a file of its own, which is deleted after the fault was undone. So whatever ends a run, the next
command knows what is left. The lock is the kernel's, and is released when its process ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from infra import state_folder
from infra.atomic_write import put
from infra.spec.checkout import Checkout
from ops.errors import Exit, OpsError

# The command of a run. Other commands hold the lock while they undo what a run has left.
RUN = "chaos"
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ActiveFault:
    """A fault of a container that has to be undone. `until` is when it ends, in seconds since 1970.

    `started` identifies the run of the container: after a restart there is nothing left to undo in its processes and
    its network. `volume` has the file of `fill`. Both are empty before the fault begins, and in entries of earlier
    versions.
    """

    token: str
    fault: str
    service: str
    container: str
    until: float
    started: str = ""
    volume: str = ""

    def __str__(self) -> str:
        return f"{self.fault} of {self.service}"


@dataclass(frozen=True)
class Holder:
    """The command and the process that hold the lock. Earlier versions did not write the command."""

    command: str
    process: int

    def __str__(self) -> str:
        return f"`groundwork {self.command}` (process {self.process})" if self.command else "another command"

    @property
    def is_run(self) -> bool:
        return self.command == RUN


@dataclass(frozen=True)
class Journal:
    """The journal of a stack. The folder is created when something is recorded."""

    checkout: Checkout
    stack: str

    @property
    def folder(self) -> Path:
        return self.checkout.stack_dir(self.stack) / "chaos"

    def add(self, active: ActiveFault) -> None:
        """Record a fault on the disk."""
        state_folder.make_private(self.checkout, self.folder)
        put(self._file(active), json.dumps(asdict(active)) + "\n", mode=0o600)

    def remove(self, active: ActiveFault) -> None:
        self._file(active).unlink(missing_ok=True)

    def recorded(self, active: ActiveFault) -> ActiveFault | None:
        """Return the entry of a fault, to which the injector has added what undoing needs, or None if it is deleted."""
        try:
            return _parsed(self._file(active))
        except FileNotFoundError:
            return None

    def active(self) -> list[ActiveFault]:
        """Return the recorded faults, the last one first."""
        found = [_parsed(path) for path in sorted(self.folder.glob("fault-*.json"))]
        return sorted(found, key=lambda each: -each.until)

    @property
    def has_rows(self) -> bool:
        """Return whether a load may have left rows in the database."""
        return self._rows_file.exists()

    def note_rows(self) -> None:
        """Record that a load is about to write rows."""
        state_folder.make_private(self.checkout, self.folder)
        put(self._rows_file, "", mode=0o600)

    def forget_rows(self) -> None:
        self._rows_file.unlink(missing_ok=True)

    def holder(self) -> Holder | None:
        """Return who holds the lock, or None."""
        if not self._lock_file.exists():
            return None
        with self._lock_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                process, _, command = file.read().partition(" ")
                return Holder(command, int(process or 0))
        return None

    @contextmanager
    def lock(self, command: str, wait_seconds: float = 0) -> Iterator[None]:
        """Hold the lock for a command. Raise OpsError (5) if another process still holds it after `wait_seconds`."""
        state_folder.make_private(self.checkout, self.folder)
        deadline = time.monotonic() + wait_seconds
        with self._lock_file.open("a+") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise OpsError(self._refusal(), Exit.LOCKED) from None
                    time.sleep(_POLL_SECONDS)
            file.truncate(0)
            file.write(f"{os.getpid()} {command}")
            file.flush()
            try:
                yield
            finally:
                # Otherwise the next holder would have this name until it has written its own.
                file.truncate(0)

    def _refusal(self) -> str:
        holder = self.holder()
        if holder is not None and holder.is_run:
            return (
                f"`groundwork chaos` is running on stack {self.stack!r}; wait until it has finished, or end it with"
                f" `groundwork chaos stop --stack {self.stack}`"
            )
        return (
            f"{holder or 'another command'} undoes the faults of chaos on stack {self.stack!r}; wait until it has"
            " finished"
        )

    @property
    def _lock_file(self) -> Path:
        return self.folder / "lock"

    @property
    def _rows_file(self) -> Path:
        return self.folder / "rows"

    def _file(self, active: ActiveFault) -> Path:
        return self.folder / f"fault-{active.token}.json"


def _parsed(path: Path) -> ActiveFault:
    return ActiveFault(**json.loads(path.read_text(encoding="utf-8")))
