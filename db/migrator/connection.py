"""The migrator's connections, and the one place where the driver's exceptions become the migrator's.

Every connection is in autocommit (transactions are opened where they are meant), asks for no time zone,
encoding or path of its own beyond UTF-8, and ends soon after its client: a statement that outlives a
killed migrator would hold its locks.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from db.migrator.errors import InvalidUrl, LockHeld, MigrationError, ScriptFailed, Unreachable
from db.migrator.script import Statement
from db.migrator.source import Script, first_line

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
_CONNECT_TIMEOUT_SECONDS = 5
_CLIENT_CHECK = "2s"
# A role has few connections, and another migrator's are soon free again. libpq gives no SQLSTATE for these.
_NO_SLOT = ("too many connections for", "too many clients already", "remaining connection slots are reserved")
_SLOT_SECONDS = 30.0
_SLOT_PAUSE_SECONDS = (0.05, 0.5)
# Connection exceptions, and what the server says when it is shutting down or starting up.
_LOST = ("08", "57P01", "57P02", "57P03")

Connection = psycopg.Connection[tuple[object, ...]]


@contextmanager
def open_connection(conninfo: str) -> Iterator[Connection]:
    """A connection in autocommit, closed at the end. Unreachable where there is none to be had."""
    with translated_errors():
        connection = _connect(conninfo)
        with connection:
            # What a DDL waits for is bounded by lock_timeout; how long it works is not the client's to say.
            connection.execute(
                "SELECT set_config('statement_timeout', '0', false),"
                " set_config('client_connection_check_interval', %s, false)",
                [_CLIENT_CHECK],
            )
            yield connection


def require_login(conninfo: str) -> None:
    """Log in, and do nothing. Unreachable with the server's own words where that fails, InvalidUrl for no URL."""
    with translated_errors():
        _connect(conninfo).close()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Driver exceptions become MigrationError's classes, the SQLSTATE kept."""
    try:
        yield
    except psycopg.Error as exc:
        raise _translate(exc) from exc


def execute_statement(connection: Connection, script: Script, statement: Statement) -> None:
    """Run one statement of a script. ScriptFailed names file, line and statement."""
    try:
        connection.execute(statement.text.encode(), prepare=False)
    except psycopg.Error as exc:
        if _is_lost(exc):
            raise
        raise _refused(exc, script, statement) from exc


def check_deferred_constraints(connection: Connection, script: Script) -> None:
    """Check now what would be checked at COMMIT, where a failure could no longer be told from the script's."""
    try:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as exc:
        if _is_lost(exc):
            raise
        raise _refused(exc, script, None) from exc


def _refused(exc: psycopg.Error, script: Script, statement: Statement | None) -> ScriptFailed:
    """The error for a statement that the server refused; without one it was a deferred constraint."""
    if statement is None:
        line, text = script.sql.rstrip().count("\n") + 1, "COMMIT"
    else:
        line, text = script.line_of(statement, int(exc.diag.statement_position or 1)), statement.text
    words = [exc.diag.message_primary or str(exc), exc.diag.message_detail, exc.diag.message_hint]
    reason = "; ".join(_one_line(part).rstrip(".") for part in words if part)
    undone = "nothing of it is recorded" if script.no_transaction else "this migration was rolled back"
    return ScriptFailed(
        f"{script.path.name}:{line}: {reason} (SQLSTATE {exc.sqlstate}) in `{first_line(text)}`;"
        f" {undone}: correct the file and run it again",
        path=script.path,
        line=line,
        statement=text,
        sqlstate=exc.sqlstate,
    )


def _connect(conninfo: str) -> Connection:
    try:
        given = psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # libpq quotes the string it could not parse, and the string holds a password: no cause, no quote.
        raise InvalidUrl(
            "the database URL cannot be parsed; write it as postgresql://user:password@host:port/database"
        ) from None
    deadline = time.monotonic() + _SLOT_SECONDS
    while True:
        try:
            return psycopg.connect(
                conninfo,
                autocommit=True,
                client_encoding="utf8",
                connect_timeout=int(given.get("connect_timeout") or _CONNECT_TIMEOUT_SECONDS),
                application_name=f"groundwork migrator, pid {os.getpid()} on {socket.gethostname()}"[:63],
                # What the server notices about us holds the other way round too: a dead server ends the wait.
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
            )
        except psycopg.OperationalError as exc:
            if not any(said in str(exc) for said in _NO_SLOT) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(*_SLOT_PAUSE_SECONDS))


def _translate(exc: psycopg.Error) -> MigrationError:
    if _is_lost(exc):
        return Unreachable(
            f"the database cannot be reached: {_one_line(exc)}; is it up, and are host, port, user and"
            " password right?",
            sqlstate=exc.sqlstate,
        )
    if exc.sqlstate == LOCK_NOT_AVAILABLE:
        return LockHeld(
            f"{_one_line(exc)}; see pg_stat_activity for who holds it, or allow more lock attempts",
            sqlstate=exc.sqlstate,
        )
    return MigrationError(f"the migrator's own statement failed: {_one_line(exc)}", sqlstate=exc.sqlstate)


def _is_lost(exc: psycopg.Error) -> bool:
    if not isinstance(exc, psycopg.OperationalError):
        return False
    return exc.sqlstate is None or exc.sqlstate.startswith(_LOST)


def _one_line(said: BaseException | str) -> str:
    return " ".join(str(said).split())
