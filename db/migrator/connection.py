"""The migrator's connections, and the translation of the driver's exceptions.

Connections are in autocommit mode, with explicit transactions, and prepare no statements. They have the settings of
db.session, and the search_path of the connection string or of the role. The server ends a connection soon after its
client is gone, so that a statement of a killed migrator does not keep its locks.
"""

from __future__ import annotations

import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg import sql

from db.login import refusal_of
from db.migrator.errors import InvalidUrl, LockHeld, MigrationError, PoolerRefused, ScriptFailed, Unreachable
from db.migrator.script import Statement, first_line
from db.migrator.source import Script
from db.migrator.url import (
    DEFAULT_PATH,
    LEDGER,
    LOGIN_PATH,
    SEARCH_PATH,
    libpq_url,
    session_of,
    with_login_path,
    without_search_path,
)
from db.session import ENCODING, REPAIRED, is_mangled, variable_at_fault, without_environment

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
_CONNECT_TIMEOUT_SECONDS = 5
_POOLER_PROBES = 5
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
# The same as DISCARD ALL, except that the session keeps its advisory locks.
_RESET = (
    "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DEALLOCATE ALL; DISCARD PLANS;"
    " DISCARD TEMP; DISCARD SEQUENCES"
)
# The role has few connections, and another migrator's are soon free again.
_NO_SLOT = "53300"
_SLOT_SECONDS = 30.0
_SLOT_PAUSE_SECONDS = (0.05, 0.5)
# The server's messages if no connection is free, and the limit that each message means.
_CONNECTION_LIMITS = (
    ("too many connections for role", "the CONNECTION LIMIT of the role"),
    ("too many connections for database", "the CONNECTION LIMIT of the database"),
    ("", "max_connections, less superuser_reserved_connections,"),
)
# How the server reads the text of a statement.
_READING = {name: REPAIRED[name] for name in ("client_encoding", "standard_conforming_strings")}
_report_wait: ContextVar[Callable[[str], None]] = ContextVar("report_wait", default=lambda line: None)
# SQLSTATEs of connection exceptions, and of a server that is shutting down or starting up.
_LOST = ("08", "57P01", "57P02", "57P03")

Connection = psycopg.Connection[tuple[object, ...]]


@contextmanager
def reporting_waits(report: Callable[[str], None]) -> Iterator[None]:
    """Call `report` with a line whenever a connection of the block begins to wait because no connection is free."""
    token = _report_wait.set(report)
    try:
        yield
    finally:
        _report_wait.reset(token)


@contextmanager
def open_connection(conninfo: str) -> Iterator[Connection]:
    """Open a connection in autocommit mode, closed at the end of the block.

    Raises Unreachable if that fails, and PoolerRefused behind a pooler that does not keep a session for its client.
    Translates the driver's errors in the block.
    """
    with translated_errors():
        given = _with_login_path(_parsed(conninfo))
        session = session_of(str(given.get("options") or ""))
        connection = _connect(given)
        with connection:
            pid = connection.info.backend_pid
            # A pooler makes up the process id. It may give the server's session to another client at any time, with
            # the settings that are not local to a transaction.
            row = connection.execute(
                _settings(session, is_local=f"pg_backend_pid() <> {pid}").encode()
            ).fetchone()
            if row is None or row[0] != pid:
                _require_session_mode(connection, given)
                connection.execute(_settings(session).encode())
            yield connection


@contextmanager
def open_observer(conninfo: str) -> Iterator[Connection]:
    """Open one more connection, as the login itself, to look at other sessions. Rolls back what the block changes.

    Raises the driver's errors unchanged, and at once if no connection is free.
    """
    # pg_stat_activity shows the details of the login's other sessions to the login, but not to role owner.
    with _connect(_parsed(conninfo), waits=False) as connection, built_in_names(connection):
        connection.execute("SET LOCAL ROLE NONE")
        yield connection


@contextmanager
def built_in_names(connection: Connection) -> Iterator[None]:
    """Find functions and operators only in pg_catalog during the block. Rolls back what the block changes.

    Otherwise another role's function in a schema of the search_path, with exactly the types of a call, has priority
    over a built-in one for any type, and runs with the privileges of the session.
    """
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = pg_catalog")
        yield


def reset_of(connection: Connection) -> str:
    """Return SQL that resets a session of open_connection to its initial state."""
    return f"{_RESET}; {_settings(session_of(connection.info.get_parameters().get('options', '')))}"


def _with_login_path(given: dict[str, Any]) -> dict[str, Any]:
    """Return the connection parameters with the login's search_path in place of LOGIN_PATH.

    A session whose options set the search_path cannot see which one it would have without them, because the server's
    configuration may set it too. So another session is asked, which ends before the migrator's own begins: the role may
    have only one connection.
    """
    options = str(given.get("options") or "")
    if session_of(options).get(DEFAULT_PATH) != LOGIN_PATH:
        return given
    with _connect({**given, "options": without_search_path(options)}) as connection:
        row = connection.execute("SHOW search_path").fetchone()
    assert row is not None
    return {**given, "options": with_login_path(options, str(row[0]))}


def _settings(session: Mapping[str, str], is_local: str = "false") -> str:
    """Return SQL that makes the settings, and returns the server's process id first. `is_local` is an expression."""
    # A DDL statement may work for any time; lock_timeout limits only how long it waits. search_path and the ledger are
    # set again, because a pooler may drop the connection string's options.
    path = sql.Literal(session.get(SEARCH_PATH))
    fixed = {
        **REPAIRED,
        "statement_timeout": "0",
        "client_connection_check_interval": "2s",
        LEDGER: session.get(LEDGER, ""),
        DEFAULT_PATH: session.get(DEFAULT_PATH, ""),
    }
    values = {name: sql.Literal(value).as_string() for name, value in fixed.items()}
    values[SEARCH_PATH] = f"coalesce({path.as_string()}, current_setting('{SEARCH_PATH}'))"
    made = ", ".join(f"set_config('{name}', {value}, {is_local})" for name, value in values.items())
    return f"SELECT pg_backend_pid(), {made}"


def _require_session_mode(connection: Connection, given: Mapping[str, Any]) -> None:
    """Raise PoolerRefused if the pooler in front of the server works in transaction mode."""
    with _connect(given) as other:
        # In session mode a client keeps its server process. In transaction mode the process that has just served one
        # client is idle, and usually gets the next transaction, but another client may have come first.
        for _ in range(_POOLER_PROBES):
            mine = _server_pid(connection)
            with other.transaction():
                is_shared = _server_pid(other) == mine or _server_pid(connection) != mine
            if is_shared:
                raise PoolerRefused(
                    "the database is behind a pooler in transaction mode, with which the migration lock and the"
                    " settings of a session do not work; use the server's own address, or a pool in session mode"
                )


def _server_pid(connection: Connection) -> object:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row and row[0]


def require_login(conninfo: str) -> None:
    """Check that a login works. Raises Unreachable with the server's message, or InvalidUrl."""
    with translated_errors():
        _connect(_parsed(conninfo)).close()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate the driver's exceptions to subclasses of MigrationError, keeping the SQLSTATE."""
    try:
        yield
    except psycopg.Error as exc:
        raise _translate(exc) from exc


def execute_statement(
    connection: Connection, script: Script, statement: Statement, after: str = ""
) -> psycopg.Cursor[tuple[object, ...]]:
    """Run one statement of a script, or a group, and in the same round trip the SQL `after` it.

    Raises ScriptFailed with file, line and statement.
    """
    try:
        cursor = connection.execute(f"{statement.text}{after}".encode())
    except psycopg.Error as exc:
        if is_lost(exc):
            raise
        raise _refused(exc, script, statement) from exc
    _restore_reading(connection)
    return cursor


def _restore_reading(connection: Connection) -> None:
    """Undo what a statement set for the reading of the next one.

    sqlx sends a whole file in one message, so a file's own SET does not change how the rest of the file is read.
    """
    for name, value in _READING.items():
        if connection.pgconn.parameter_status(name.encode()) not in {None, value.encode()}:
            # Not with `execute`, because psycopg does not know all encodings.
            connection.pgconn.exec_(f"SET {name} = '{value}'".encode())


def check_deferred_constraints(connection: Connection, script: Script) -> None:
    """Check the deferred constraints now, because a failing COMMIT could not be attributed to the script."""
    try:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as exc:
        if is_lost(exc):
            raise
        raise _refused(exc, script, None) from exc


def _refused(exc: psycopg.Error, script: Script, statement: Statement | None) -> ScriptFailed:
    """Return the error for a statement that the server rejected. None stands for a deferred constraint."""
    if statement is None:
        line, text = script.line_at(len(script.sql.rstrip())), "COMMIT"
    else:
        line, text = script.line_of(statement, int(exc.diag.statement_position or 1)), statement.text
    words = [exc.diag.message_primary or str(exc), exc.diag.message_detail, exc.diag.message_hint]
    reason = "; ".join(one_line(part).rstrip(".") for part in words if part)
    undone = "this migration was rolled back" if script.is_atomic else "the ledger is unchanged"
    return ScriptFailed(
        f"{script.path.name}:{line}: {reason} (SQLSTATE {exc.sqlstate}) in `{first_line(text)}`",
        f"{undone}: correct the file and run it again",
        path=script.path,
        line=line,
        statement=text,
        sqlstate=exc.sqlstate,
    )


def _parsed(conninfo: str) -> dict[str, Any]:
    try:
        given = dict(psycopg.conninfo.conninfo_to_dict(libpq_url(conninfo)))
        if is_mangled(given):
            raise psycopg.ProgrammingError
    except psycopg.ProgrammingError:
        # Not chained: libpq quotes the string, which contains the password.
        raise InvalidUrl(
            "the database URL cannot be parsed; write it as postgresql://user:password@host:port/database,"
            " with special characters of the password percent-encoded"
        ) from None
    timeout = str(given.get("connect_timeout") or _CONNECT_TIMEOUT_SECONDS).strip()
    if not _WHOLE_NUMBER.fullmatch(timeout):
        raise InvalidUrl(
            f"connect_timeout of the database URL is {timeout!r}; write a whole number of seconds, such as 10"
        )
    return {**given, "connect_timeout": int(timeout)}


def _connect(given: Mapping[str, Any], *, waits: bool = True) -> Connection:
    """Connect, and wait for a free connection first if `waits`."""
    deadline = time.monotonic() + (_SLOT_SECONDS if waits else 0.0)
    is_waiting = False
    while True:
        try:
            # A pooler may refuse the options of db.session, so the settings are made by a statement.
            parameters = {
                **without_environment(given),
                "client_encoding": ENCODING,
                "application_name": f"groundwork migrator, pid {os.getpid()} on {socket.gethostname()}"[:63],
                # The client notices a dead server, as the server notices a dead client.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
            }
            return psycopg.connect(
                psycopg.conninfo.make_conninfo("", **parameters), autocommit=True, prepare_threshold=None
            )
        except psycopg.OperationalError as exc:
            if refusal_of(exc).sqlstate != _NO_SLOT or time.monotonic() >= deadline:
                raise
            if not is_waiting:
                is_waiting = True
                _report_wait.get()(
                    f"the database has no free connection, because {_limit_of(exc)} is reached; waiting up to"
                    f" {_SLOT_SECONDS:g} s for one"
                )
        time.sleep(random.uniform(*_SLOT_PAUSE_SECONDS))


def _limit_of(exc: psycopg.Error) -> str:
    return next(limit for text, limit in _CONNECTION_LIMITS if text in str(exc))


def _translate(exc: psycopg.Error) -> MigrationError:
    if is_lost(exc):
        if refusal_of(exc).sqlstate == _NO_SLOT:
            return Unreachable(
                f"the database has no free connection: {one_line(exc)}; a migrator needs one, and waited"
                f" {_SLOT_SECONDS:g} s. End a session, or raise {_limit_of(exc)} (pg_stat_activity shows the sessions)",
                sqlstate=_NO_SLOT,
            )
        variable = variable_at_fault(str(exc))
        fix = f"unset {variable}" if variable else "check that it is up, and host, port, user and password"
        return Unreachable(
            f"the database cannot be reached: {one_line(exc)}; {fix}", sqlstate=refusal_of(exc).sqlstate
        )
    if exc.sqlstate == LOCK_NOT_AVAILABLE:
        return LockHeld(
            f"{one_line(exc)}; find the session that holds the lock in pg_stat_activity, and run again when it has"
            " ended its transaction",
            sqlstate=exc.sqlstate,
        )
    return MigrationError(f"the migrator's own statement failed: {one_line(exc)}", sqlstate=exc.sqlstate)


def is_lost(exc: psycopg.Error) -> bool:
    """Return whether the error means that the connection could not be made, or is lost."""
    if not isinstance(exc, psycopg.OperationalError):
        return False
    # A statement that connects to another server, as of a foreign table, fails with the same SQLSTATEs. What ends a
    # session is FATAL.
    if exc.diag.severity_nonlocalized == "ERROR":
        return False
    return exc.sqlstate is None or exc.sqlstate.startswith(_LOST)


def one_line(said: BaseException | str) -> str:
    """Return a message of the server or the driver in one line."""
    return " ".join(str(said).split())
