"""Run a statement that may wait for other sessions without a limit, and report which ones it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import psycopg

from db.migrator.connection import execute_statement, open_observer
from db.migrator.lock import LockedSession, describe_session
from db.migrator.script import Statement
from db.migrator.source import Script

_FIRST_LOOK_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 30.0
_CANCEL_SECONDS = 5.0
_SHOWN = 3
# The process id of a prepared transaction, which has no session.
_PREPARED = 0


def execute_watched(
    session: LockedSession, script: Script, statement: Statement, on_wait: Callable[[str], None]
) -> None:
    """Run a statement of a script. Raises ScriptFailed, as execute_statement does.

    Calls `on_wait`, in the calling thread, with the sessions that the statement waits for, again whenever these have
    changed. Each look at them needs a second connection for a moment. If none is free, this look is left out.
    """
    connection = session.connection
    # A pooler makes up the process id of the connection.
    (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (None,)
    with ThreadPoolExecutor(1, thread_name_prefix="migration") as pool:
        running = pool.submit(execute_statement, connection, script, statement)
        try:
            told: list[object] = []
            for pause in _pauses():
                wait([running], pause)
                if running.done():
                    break
                blockers, described = _blockers(session.conninfo, pid)
                if blockers and blockers != told and not running.done():
                    told = blockers
                    on_wait(described)
        except BaseException:
            # Leaving the executor waits for the statement's end.
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_SECONDS)
            raise
        running.result()


def _pauses() -> Iterator[float]:
    pause = _FIRST_LOOK_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _blockers(conninfo: str, pid: object) -> tuple[list[object], str]:
    """Return the process ids of the sessions that a process waits for, and their description. Empty if unknown."""
    with suppress(psycopg.Error), open_observer(conninfo) as connection:
        rows = connection.execute(
            "SELECT DISTINCT blocker FROM unnest(pg_blocking_pids(%s::int)) AS blocker ORDER BY blocker",
            [pid],
        ).fetchall()
        pids = [blocker for (blocker,) in rows]
        shown = [
            "a prepared transaction (see pg_prepared_xacts)"
            if each == _PREPARED
            else describe_session(connection, each)
            for each in pids[:_SHOWN]
        ]
        more = [f"{len(pids) - _SHOWN} more sessions"] if len(pids) > _SHOWN else []
        return pids, "; ".join([*shown, *more])
    return [], ""
