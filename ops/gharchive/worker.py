"""A process of `import gharchive --jobs`, which parses and loads batches when the importing process says so.

It loads a batch in two steps, because only the second step has to wait until all earlier batches are loaded:

1. Insert missing users, organizations and repositories in a transaction of their own.
2. Begin a transaction, store the events, wait until all earlier batches are loaded, update parties, and commit.

If anything fails, the batch is loaded as without `--jobs`, after all earlier batches.
"""

from __future__ import annotations

import sys
from enum import Enum
from multiprocessing.connection import Connection
from typing import TypeVar

import msgspec

from cache.url_source import UrlSource
from db._sync.pool import Pool
from db.errors import DbError, InvalidSetting, OutcomeUnknown
from db.settings import DatabaseSettings
from ops.errors import OpsError, exit_code_of
from ops.gharchive.batch import BatchResult, Parsed, load_events, parse_lines
from ops.gharchive.lines import Line
from ops.gharchive.loader import Loader, Prepared
from ops.stack.database_url import TOKEN_POOL_SECONDS

# A batch waits for the index updates of thousands of rows, and for the locks of another import.
DEADLINE_SECONDS = 60.0
# Another import may wait for this transaction's rows while the batch before this one waits for its rows. The server
# does not see this deadlock.
_TURN_SECONDS = 5.0
T = TypeVar("T")


class Start(msgspec.Struct):
    """The first message to a worker. `database` is None for a dry run."""

    database: str | None


class Step(Enum):
    """What to do next with the batch."""

    PREPARE = "prepare"
    # Earlier batches have changed parties since the batch was prepared.
    FINISH = "finish"
    # They have not, so that the parties need not be read again.
    FINISH_UNCHANGED = "finish unchanged"


class ParsedBatch(msgspec.Struct, tag=True):
    """The batch is parsed, and has these GitHub events."""

    event_ids: list[int]


class PreparedBatch(msgspec.Struct, tag=True):
    """The batch is prepared, unless that failed."""

    is_prepared: bool


class LoadedBatch(msgspec.Struct, tag=True):
    """The batch is loaded, unless there is an `error`. `has_changes` is False if no party was renamed or moved."""

    result: BatchResult
    has_changes: bool = True
    error: str | None = None
    exit_code: int = 0


Answer = ParsedBatch | PreparedBatch | LoadedBatch


class _TurnTooLate(Exception):
    """Earlier batches take too long. The transaction must end, because others may wait for it."""


class _Worker:
    def __init__(self, connection: Connection, loader: Loader | None) -> None:
        self._connection = connection
        self._loader = loader

    def load(self, lines: list[Line]) -> None:
        result = BatchResult(len(lines))
        events = parse_lines(lines, result)
        send(self._connection, ParsedBatch([event.github_event_id for _, event in events]))
        self._receive_step()
        prepared = self._prepare(events)
        send(self._connection, PreparedBatch(prepared is not None))
        is_turn = False

        def wait() -> bool:
            nonlocal is_turn
            if not self._connection.poll(_TURN_SECONDS):
                raise _TurnTooLate
            step = self._receive_step()
            is_turn = True
            return step is Step.FINISH

        try:
            if prepared is not None and self._loader is not None:
                try:
                    has_changes = self._loader.load_prepared(prepared, wait)
                except OutcomeUnknown:
                    # Loaded again, the batch would count as stored, although a failover may lose it.
                    raise
                except (DbError, _TurnTooLate):
                    # Below, the batch is loaded alone. That reports the error again, unless its cause is gone.
                    pass
                else:
                    new = len(prepared.events)
                    result.loaded, result.known = new, len(events) - new
                    send(self._connection, LoadedBatch(result, has_changes))
                    return
            if not is_turn:
                self._receive_step()
            load_events(self._loader, events, result)
        except (DbError, OpsError) as error:
            send(self._connection, LoadedBatch(result, error=str(error), exit_code=exit_code_of(error) or 1))
        else:
            send(self._connection, LoadedBatch(result))

    def _prepare(self, events: Parsed) -> Prepared | None:
        if self._loader is None:
            return None
        try:
            return self._loader.prepare([event for _, event in events])
        except DbError:
            return None

    def _receive_step(self) -> Step:
        return receive(self._connection, Step)


def send(connection: Connection, message: object) -> None:
    connection.send_bytes(msgspec.msgpack.encode(message))


def receive(connection: Connection, kind: type[T]) -> T:
    """Wait for a message. Raise EOFError if the other process has closed the connection."""
    return msgspec.msgpack.decode(connection.recv_bytes(), type=kind)


def open_pool(database: str) -> Pool:
    source = UrlSource("DATABASE_URL", InvalidSetting, database)
    settings = DatabaseSettings(
        source,
        pool_size=1,
        deadline_seconds=DEADLINE_SECONDS,
        max_lifetime_seconds=TOKEN_POOL_SECONDS,
    )
    pool = Pool(settings, name="import")
    pool.open()
    return pool


def main(descriptor: int) -> None:
    """Load batches until the importing process closes the connection or ends."""
    connection = Connection(descriptor)
    pool: Pool | None = None
    try:
        start = receive(connection, Start)
        if start.database is not None:
            pool = open_pool(start.database)
        worker = _Worker(connection, None if pool is None else Loader(pool))
        while True:
            worker.load(receive(connection, list[Line]))
    except (EOFError, ConnectionError):
        pass
    finally:
        if pool is not None:
            pool.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
