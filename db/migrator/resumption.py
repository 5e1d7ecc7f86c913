"""Resume statements outside a transaction that were killed or failed, and remove what they left behind.

Only statements whose completion is visible in the catalog, or that may run again, are resumed. For the others the
migration stays dirty, and a person must decide.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import class_row

from db.migrator.connection import Connection
from db.migrator.errors import LockHeld
from db.migrator.lock import describe_session
from db.migrator.script import LETTER, LETTER_DIGIT_OR_DOLLAR, Statement, tokens
from db.migrator.source import Script
from db.migrator.statement_problems import runs_outside_transaction

_WORKER_POLL_SECONDS = 0.2
# These match `Statement.plain`.
_IDENTIFIER = rf'(?:"(?:[^"]|"")+"|{LETTER}{LETTER_DIGIT_OR_DOLLAR}*)'
_QUALIFIED = rf"{_IDENTIFIER}(?: \. {_IDENTIFIER}){{0,2}}"
_TABLE = rf"(?:only )?(?:\( )?(?P<table>{_QUALIFIED})(?: [)*])?"
_CREATE = "create (?:unique )?index concurrently"
_ON_TABLE = rf"on {_TABLE} (?:\(|using\b)"
_CREATE_INDEX = rf"{_CREATE} (?:if not exists )?(?P<index>{_IDENTIFIER}) {_ON_TABLE}"
_NAMELESS_INDEX = rf"{_CREATE} {_ON_TABLE}"
_DROP_INDEX = rf"drop index concurrently (?:if exists )?(?P<index>{_QUALIFIED})(?: cascade| restrict)?$"
_REINDEX = (
    r"reindex (?:\( [^)]*\) )?(?P<kind>index|table|schema|database|system)(?: concurrently)?"
    rf"(?: (?P<name>{_QUALIFIED}))?$"
)
_DETACH = rf"alter table (?:if exists )?{_TABLE} detach partition (?P<partition>{_QUALIFIED}) concurrently$"
# The table of an index. For the index of a TOAST table, the table that stores its values there.
_MAIN_TABLE = "coalesce((SELECT oid FROM pg_class WHERE reltoastrelid = indrelid), indrelid)"
_COPIES = r"""
    SELECT indexrelid
    FROM pg_index
    JOIN pg_class AS index ON index.oid = indexrelid
    WHERE NOT indisvalid AND index.relname ~ '_cc(new|old)[0-9]*$'
"""
# No operator compares `oid` with `regclass` directly, so that another schema on the path could add one.
_TREE = "SELECT to_regclass(%(name)s)::oid UNION ALL SELECT relid::oid FROM pg_partition_tree(to_regclass(%(name)s))"
# Which of them a REINDEX rebuilds, by the kind of its object.
_SCOPES = {
    "index": f"indrelid IN (SELECT indrelid FROM pg_index WHERE indexrelid IN ({_TREE}))",
    "table": f"{_MAIN_TABLE} IN ({_TREE})",
    "schema": f"(SELECT relnamespace FROM pg_class WHERE oid = {_MAIN_TABLE}) = to_regnamespace(%(name)s)::oid",
    "database": "true",
    "system": "false",
}
# The other kinds of statements may call code that refuses to run in a transaction, or that commits.
_TRANSACTIONAL = re.compile(r"(?:create|alter|drop) (?!subscription\b)")
# The procedure or block may commit while it runs.
_COMMITTING = re.compile(r"(?:call|do)\b")
_WAITING_ALONE = re.compile(r"(?:create (?:unique )?index|drop index|reindex|refresh materialized view)\b")
_RERUNNABLE = re.compile(r"(?:vacuum|analyze|reindex|refresh materialized view|cluster|alter system)\b")


def _match(form: str, statement: Statement) -> re.Match[str] | None:
    # Not compiled at import: the character classes take long to compile, and most runs need none of these.
    return re.match(form, statement.plain, re.IGNORECASE)


def is_resumable(statement: Statement) -> bool:
    """Return whether an interrupted statement can be resumed automatically."""
    seen = (_CREATE_INDEX, _DROP_INDEX, _DETACH)
    return any(_match(form, statement) for form in seen) or bool(_RERUNNABLE.match(statement.head))


def commits_itself(statement: Statement) -> bool:
    """Return whether a statement that fails outside a transaction may have committed a part that must not run again."""
    return bool(_COMMITTING.match(statement.head))


def can_leave_dirty(script: Script) -> bool:
    """Return whether the ledger's row is dirty if the script is interrupted."""
    if not script.runs_alone:
        return not script.is_atomic
    return not all(
        _TRANSACTIONAL.match(statement.head) and not runs_outside_transaction(statement)
        for statement in script.statements
    )


def can_resume(script: Script) -> bool:
    """Return whether a script that left a dirty row can be resumed automatically."""
    return script.runs_alone and all(map(is_resumable, script.statements))


def waits_alone(statement: Statement) -> bool:
    """Return whether no query waits behind the statement while it waits for other transactions.

    CONCURRENTLY means that for all statements except DETACH PARTITION, which locks the partition in its second half.
    """
    return bool(_WAITING_ALONE.match(statement.head)) and any(
        kind == "word" and text.lower() == "concurrently" for kind, text, _ in tokens(statement.text)
    )


def is_finished(connection: Connection, statement: Statement) -> bool:
    """Return whether the catalog shows that an interrupted statement completed.

    Finishes the detaching of a partition whose detach is pending.
    """
    if _match(_CREATE_INDEX, statement):
        index = _created_index(connection, statement)
        return index is not None and index.is_valid
    if match := _match(_DROP_INDEX, statement):
        row = connection.execute("SELECT to_regclass(%s) IS NULL", [match["index"]]).fetchone()
        return row == (True,)
    if match := _match(_DETACH, statement):
        return finish_detach(connection, statement) or _attachment(connection, match) is None
    return False


def finish_detach(connection: Connection, statement: Statement) -> bool:
    """Finish the detaching of a partition if an interrupted session left it pending. Return whether it was pending."""
    match = _match(_DETACH, statement)
    if match is None or _attachment(connection, match) is not True:
        return False
    connection.execute(
        f"ALTER TABLE {match['table']} DETACH PARTITION {match['partition']} FINALIZE".encode()
    )
    return True


def _attachment(connection: Connection, match: re.Match[str]) -> bool | None:
    """Return whether the detach of a partition is pending; None if it is not attached."""
    row = connection.execute(
        "SELECT inhdetachpending FROM pg_inherits"
        " WHERE inhparent = to_regclass(%s)::oid AND inhrelid = to_regclass(%s)::oid",
        [match["table"], match["partition"]],
    ).fetchone()
    return None if row is None else row == (True,)


def drop_leftovers(
    connection: Connection, statement: Statement, known: Collection[int] | None = None
) -> tuple[str, ...]:
    """Drop the INVALID indexes that a failed CREATE INDEX or REINDEX CONCURRENTLY left, and return their names.

    Otherwise IF NOT EXISTS would accept an INVALID index, which no query uses. The leftover of an index without a name
    is dropped only if it is not among the `known` ones, which were there before. An index that another session is
    building is INVALID too, so the caller asks `worker_of` first. A copy that the role may not drop is kept.
    """
    found = _leftovers(connection, statement)
    if known is not None and _match(_NAMELESS_INDEX, statement):
        found += invalid_indexes(connection, statement) - set(known)
    dropped: list[str] = []
    for oid in found:
        try:
            name = _drop_invalid(connection, oid)
        except InsufficientPrivilege:
            # REINDEX also copies indexes of other owners, and those of TOAST tables, which only a superuser may drop.
            if not _match(_REINDEX, statement):
                raise
        else:
            dropped += [] if name is None else [name]
    return tuple(dropped)


def kept_leftovers(connection: Connection, statement: Statement) -> tuple[str, ...]:
    """Return the names of the INVALID copies that are left of an interrupted REINDEX."""
    indexes = (_index(connection, oid) for oid in _half_rebuilt(connection, statement))
    return tuple(sql.Identifier(each.schema, each.name).as_string() for each in indexes if each is not None)


def invalid_indexes(connection: Connection, statement: Statement) -> set[int]:
    """Return the INVALID indexes of the table on which a statement creates an index without a name."""
    match = _match(_NAMELESS_INDEX, statement)
    if match is None:
        return set()
    rows = connection.execute(
        "SELECT indexrelid FROM pg_index WHERE NOT indisvalid AND indrelid = to_regclass(%s)::oid",
        [match["table"]],
    )
    return {int(str(oid)) for (oid,) in rows}


def is_left_invalid(connection: Connection, statement: Statement) -> bool:
    """Return whether the index that a CREATE INDEX CONCURRENTLY names exists and is INVALID."""
    index = _created_index(connection, statement)
    return index is not None and not index.is_valid


def _drop_invalid(connection: Connection, oid: int) -> str | None:
    """Drop an index, and return its name. Return None if it is gone or has become valid.

    Another session may begin to work on the index at any time. It then holds a lock on the table, and no session works
    on the index while this transaction holds the same one, or a stronger one. DROP INDEX CONCURRENTLY would wait for a
    REINDEX that makes the index valid, and then drop it.
    """
    index = _index(connection, oid)
    if index is None:
        return None
    with connection.transaction():
        table = sql.Identifier(index.table_schema, index.table)
        if index.is_of_view:
            # LOCK TABLE refuses a materialized view. Its owner stays the same, so this only takes the lock.
            lock = sql.SQL("ALTER MATERIALIZED VIEW {} OWNER TO {}").format(
                table, sql.Identifier(index.owner)
            )
        else:
            lock = sql.SQL("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE").format(table)
        connection.execute(lock)
        index = _index(connection, oid)
        if index is None or index.is_valid:
            return None
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(index.schema, index.name)))
        return index.name


def worker_of(connection: Connection, statement: Statement) -> tuple[str, int] | None:
    """Return what another session does with what the statement makes or removes, and that session's process id."""
    for oid in _leftovers(connection, statement):
        # A build keeps its lock on the table from the beginning to the end. Of another role's session,
        # pg_stat_progress_create_index shows only the process id. REINDEX and DROP lock the index itself.
        row = connection.execute(
            """
            SELECT pid, pg_class.relname
            FROM pg_index
            JOIN pg_class ON pg_class.oid = indexrelid
            JOIN pg_locks ON relation IN (indexrelid, indrelid)
            WHERE indexrelid = %s AND granted AND pid <> pg_backend_pid()
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND CASE WHEN relation = indexrelid
                       THEN mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
                       ELSE pid IN (SELECT building.pid FROM pg_stat_progress_create_index AS building) END
            """,
            [oid],
        ).fetchone()
        if row is not None:
            return f"index {row[1]} is being built", int(str(row[0]))
    match = _match(_DETACH, statement)
    if match is not None and _attachment(connection, match):
        row = connection.execute("SELECT to_regclass(%s)::oid", [match["partition"]]).fetchone()
        # pg_stat_activity shows the queries of the login's other sessions to the login, but not to role owner.
        connection.execute("SET ROLE NONE")
        # First it holds no lock and waits for the transactions that may use the partition. Then it locks both.
        row = connection.execute(
            r"""
            SELECT pid FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
                (state = 'active' AND query ~* 'alter\s+table.*\sdetach\s+partition')
                OR EXISTS (SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid
                           AND relation = %(partition)s AND mode = 'AccessExclusiveLock')
                OR (EXISTS (SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid
                            AND locktype = 'virtualxid' AND NOT granted)
                    AND NOT EXISTS (SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid
                                    AND locktype = 'relation')))
            """,
            {"partition": row and row[0]},
        ).fetchone()
        connection.execute("RESET ROLE")
        if row is not None:
            return f"partition {match['partition']} is being detached", int(str(row[0]))
    return None


def await_worker(
    connection: Connection, statement: Statement, limit_seconds: float, on_wait: Callable[[str], None]
) -> None:
    """Wait until no other session works on a statement's index or partition. Raises LockHeld after the limit.

    `on_wait` is called once, with what the session does, if there is one.
    """
    deadline = time.monotonic() + limit_seconds
    is_told = False
    while (found := worker_of(connection, statement)) is not None:
        what, pid = found
        # pg_stat_activity shows the details of the login's other sessions to the login, but not to role owner.
        connection.execute("SET ROLE NONE")
        worker = describe_session(connection, pid)
        connection.execute("RESET ROLE")
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"{what} by another session: {worker}; waited {limit_seconds:g} s. Wait until it is finished"
                " (pg_stat_activity and pg_stat_progress_create_index show it), or end it with"
                f" `SELECT pg_terminate_backend({pid})`, and run again"
            )
        if not is_told:
            on_wait(f"{what} by {worker}")
            is_told = True
        time.sleep(_WORKER_POLL_SECONDS)


def _leftovers(connection: Connection, statement: Statement) -> list[int]:
    """Return the INVALID indexes that the statement is about."""
    index = _created_index(connection, statement)
    found = [] if index is None or index.is_valid else [index.oid]
    return found + _half_rebuilt(connection, statement)


@dataclass(frozen=True)
class _Index:
    """An index and its table, or its materialized view. `owner` is that of both.

    For the index of a TOAST table, it is the table that stores its values there.
    """

    oid: int
    schema: str
    name: str
    table_schema: str
    table: str
    owner: str
    is_of_view: bool
    is_valid: bool


_SELECT_INDEX = f"""
    SELECT index.oid, home.nspname AS schema, index.relname AS name,
           table_home.nspname AS table_schema, pg_class.relname AS table,
           pg_get_userbyid(pg_class.relowner) AS owner, pg_class.relkind = 'm' AS is_of_view, indisvalid AS is_valid
    FROM pg_index
    JOIN pg_class AS index ON index.oid = indexrelid
    JOIN pg_class ON pg_class.oid = {_MAIN_TABLE}
    JOIN pg_namespace AS home ON home.oid = index.relnamespace
    JOIN pg_namespace AS table_home ON table_home.oid = pg_class.relnamespace
"""


def _index(connection: Connection, oid: int) -> _Index | None:
    with connection.cursor(row_factory=class_row(_Index)) as cursor:
        return cursor.execute(f"{_SELECT_INDEX} WHERE indexrelid = %s".encode(), [oid]).fetchone()


def _created_index(connection: Connection, statement: Statement) -> _Index | None:
    """Return the index that CREATE INDEX CONCURRENTLY names, if its table has it."""
    match = _match(_CREATE_INDEX, statement)
    if match is None:
        return None
    query = f"{_SELECT_INDEX} WHERE indrelid = to_regclass(%s)::oid AND index.relname = (parse_ident(%s))[1]"
    with connection.cursor(row_factory=class_row(_Index)) as cursor:
        return cursor.execute(query.encode(), [match["table"], match["index"]]).fetchone()


def _half_rebuilt(connection: Connection, statement: Statement) -> list[int]:
    """Return the copies that an interrupted REINDEX CONCURRENTLY left among the indexes that the statement rebuilds."""
    match = _match(_REINDEX, statement)
    if match is None:
        return []
    query = f"{_COPIES} AND {_SCOPES[match['kind'].lower()]}"
    return [int(str(oid)) for (oid,) in connection.execute(query.encode(), {"name": match["name"]})]
