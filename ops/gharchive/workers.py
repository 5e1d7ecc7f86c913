"""Load batches with several processes, so that the result is the same as with one.

This process reads the files and says when a worker may take each step of its batch (ops/gharchive/worker.py):

| step | when |
|---|---|
| parse | at once |
| insert missing parties | all earlier batches have inserted theirs, and none that is not loaded has the same event |
| store events | at once |
| update parties, commit | all earlier batches are loaded |

Parties are users, organizations and repositories. A worker reads them again before the last step only if another batch
has changed some since they were inserted.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing import Pipe
from multiprocessing.connection import wait
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from ops.errors import Exit, OpsError
from ops.gharchive.batch import BatchResult
from ops.gharchive.lines import Line
from ops.gharchive.worker import Answer, LoadedBatch, ParsedBatch, Start, Step, receive, send

# A worker ends its transaction first, unless the server does not answer.
_END_SECONDS = 5.0


class _State(Enum):
    PARSING = auto()
    PARSED = auto()
    PREPARING = auto()
    PREPARED = auto()
    # Preparing failed. The batch is loaded after all earlier ones.
    ALONE = auto()


@dataclass
class _Batch:
    """A batch in progress. `may_commit` is True if the importing process has let it finish.

    `changes` is how many batches had changed parties when this one began to prepare.
    """

    worker: _Process
    done: Callable[[BatchResult], None]
    state: _State = _State.PARSING
    event_ids: frozenset[int] = frozenset()
    may_commit: bool = False
    changes: int = 0


class _Process:
    """A worker process. It has a session of its own, so that Ctrl-C interrupts only the importing process."""

    def __init__(self) -> None:
        self.is_started = False
        self.connection, theirs = Pipe()
        # A file, because a pipe that nobody reads would block the worker.
        self._errors = TemporaryFile()  # noqa: SIM115
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.gharchive.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, database: str | None) -> None:
        """Say which database to load into. Idempotent."""
        if not self.is_started:
            self.is_started = True
            self.send(Start(database))

    def send(self, message: object) -> None:
        try:
            send(self.connection, message)
        except ConnectionError as error:
            raise self._ended() from error

    def receive(self) -> Answer:
        try:
            return receive(self.connection, Answer)  # type: ignore[arg-type]
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error

    def close(self) -> None:
        self.connection.close()
        self._errors.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ended(self) -> OpsError:
        code = self.process.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._errors.seek(0)
        # The last line of a traceback.
        if lines := self._errors.read().decode(errors="replace").splitlines():
            how = f"{how} ({lines[-1]})"
        return OpsError(
            f"a process of the import {how}; rerun the command, which skips events that are loaded already"
        )


class Workers:
    """A Runner with several processes. `database` is None for a dry run.

    The processes exist from the beginning of the block, but connect to the database only for their first batch. So they
    can import their modules while the caller checks the database.
    """

    def __init__(self, database: str | None, jobs: int) -> None:
        self._database = database
        self._jobs = jobs
        self._processes: list[_Process] = []
        self._idle: deque[_Process] = deque()
        self._batches: deque[_Batch] = deque()
        # How many batches have changed parties.
        self._changes = 0

    def __enter__(self) -> Self:
        try:
            while len(self._processes) < self._jobs:
                self._processes.append(_Process())
        except BaseException:
            self._close()
            raise
        self._idle.extend(self._processes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        # Closed at once, so that they end side by side.
        for process in self._processes:
            process.connection.close()
        for process in self._processes:
            process.close()

    def submit(self, lines: list[Line], done: Callable[[BatchResult], None]) -> None:
        while not self._idle:
            self._advance()
        process = self._idle.popleft()
        process.start(self._database)
        process.send(lines)
        self._batches.append(_Batch(process, done))

    def finish(self) -> None:
        while self._batches:
            self._advance()

    def _advance(self) -> None:
        """Wait for the answer of a worker, and grant the steps that are possible now."""
        ready = wait([batch.worker.connection for batch in self._batches])
        for batch in [batch for batch in self._batches if batch.worker.connection in ready]:
            self._take(batch, batch.worker.receive())
        self._grant_steps()

    def _take(self, batch: _Batch, answer: Answer) -> None:
        if isinstance(answer, ParsedBatch):
            batch.state, batch.event_ids = _State.PARSED, frozenset(answer.event_ids)
        elif isinstance(answer, LoadedBatch):
            # Only the first one may commit.
            assert self._batches.popleft() is batch
            self._idle.append(batch.worker)
            self._changes += answer.has_changes
            batch.done(answer.result)
            if answer.error is not None:
                raise OpsError(answer.error, Exit(answer.exit_code))
        else:
            batch.state = _State.PREPARED if answer.is_prepared else _State.ALONE

    def _grant_steps(self) -> None:
        earlier: set[int] = set()
        for number, batch in enumerate(self._batches):
            if batch.state is _State.PARSED and earlier.isdisjoint(batch.event_ids):
                batch.state, batch.changes = _State.PREPARING, self._changes
                batch.worker.send(Step.PREPARE)
            if number == 0 and batch.state in (_State.PREPARED, _State.ALONE) and not batch.may_commit:
                batch.may_commit = True
                batch.worker.send(Step.FINISH if batch.changes < self._changes else Step.FINISH_UNCHANGED)
            if batch.state is not _State.PREPARED:
                return
            earlier |= batch.event_ids
