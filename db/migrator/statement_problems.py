"""Find the problems of a single statement of a migration, without a server."""

from __future__ import annotations

import re
from collections.abc import Iterable

from db.migrator.script import Statement, first_line, tokens
from db.migrator.transactions import controls_transaction, is_two_phase, modes_of_begin

# The first words of statements that may have a problem. The others are skipped, because they may be many and long.
_NOTABLE = re.compile(
    r"(?:abort|alter|begin|cluster|commit|copy|create|discard|drop|end|prepare|reindex|rollback|start|vacuum)\b",
    re.IGNORECASE,
)
# These run only outside a transaction. The options of REINDEX are before the kind of its object.
_OUTSIDE_TRANSACTION = re.compile(
    r"(?:vacuum|discard all|alter system|(?:create|drop) (?:database|tablespace)"
    r"|alter database (?:\S+ )?set tablespace"
    r"|reindex (?:(?!(?:index|table) )\S+ )*(?:database|system|schema))\b"
)
# With nothing else, CLUSTER is for all tables.
_CLUSTER_ALL = {"cluster", "verbose"}
_NAMELESS_INDEX = re.compile(r"create (?:unique )?index concurrently on\b", re.IGNORECASE)

# The rule, what to do, and whether the script cannot be run.
Problem = tuple[str, str, bool]


def notable(statements: Iterable[Statement]) -> list[Statement]:
    """Return the statements that may have a problem."""
    may_have = _NOTABLE.match
    return [statement for statement in statements if may_have(statement.text)]


def problem_of(statement: Statement, *, runs_alone: bool, is_joined: bool, is_atomic: bool) -> Problem | None:
    """Return the problem of a notable statement, or None.

    `runs_alone`: it is the only statement of a no-transaction file. `is_joined`: it is one of several statements of
    such a file. `is_atomic`: its script has only one transaction.
    """
    line = first_line(statement.text)
    if (stream := _stream(statement)) is not None:
        return "copy-stdin", f"`{line}` {stream}", True
    if is_two_phase(statement):
        return "transaction-control", f"`{line}`: a migration cannot use two-phase commit; remove it", True
    if controls_transaction(statement):
        return "transaction-control", _control(statement, is_atomic=is_atomic), False
    if runs_alone and _NAMELESS_INDEX.match(statement.plain):
        message = (
            "without an index name, the incomplete index that a killed run leaves must be found and dropped by hand;"
            " give the index a name"
        )
        return "nameless-index", message, False
    if is_joined and runs_outside_transaction(statement):
        message = (
            f"`{line}` runs only outside a transaction, and so only as the only statement of a no-transaction"
            " migration; put it into its own migration"
        )
        return "no-transaction", message, True
    return None


def runs_outside_transaction(statement: Statement) -> bool:
    """Return whether the server refuses the statement in a transaction."""
    if not _NOTABLE.match(statement.text):
        # REFRESH MATERIALIZED VIEW CONCURRENTLY may run in a transaction.
        return False
    if _OUTSIDE_TRANSACTION.match(statement.head):
        return True
    if statement.head.startswith("cluster"):
        return _words(statement) <= _CLUSTER_ALL and '"' not in statement.text
    return "concurrently" in statement.text.lower() and "concurrently" in _words(statement)


def _control(statement: Statement, *, is_atomic: bool) -> str:
    line = first_line(statement.text)
    if is_atomic and (modes := modes_of_begin(statement)):
        return (
            f"`{line}` only sets the modes of the transaction in which the migration runs with its ledger row; write"
            f" `SET TRANSACTION {modes}`"
        )
    if is_atomic:
        return f"`{line}` has no effect, because a migration runs in a transaction with its ledger row; remove it"
    return (
        f"`{line}` divides the migration into several transactions, so it is dirty if a later one fails; put each"
        " transaction into its own migration"
    )


def _stream(statement: Statement) -> str | None:
    if not statement.head.startswith("copy"):
        return None
    words = _words(statement)
    if "stdin" in words:
        return "needs a client that sends the rows; write INSERT statements, as `pg_dump --inserts` does"
    if "stdout" in words:
        return "needs a client that reads the rows; remove it"
    return None


def _words(statement: Statement) -> set[str]:
    return {text.lower() for kind, text, _ in tokens(statement.text) if kind == "word"}
