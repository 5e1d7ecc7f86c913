"""Split a script into transactions, and their statements into groups that are sent together.

As in sqlx, a script begins in a transaction. BEGIN in a transaction does nothing except to set its modes, and what
follows a COMMIT or ROLLBACK is another transaction.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, takewhile

from db.migrator.script import Statement

_CONTROL = re.compile(r"(?:begin|commit|end|rollback|abort|start|prepare)\b", re.IGNORECASE)
_BEGIN = re.compile(r"(?:begin|start transaction)\b")
_COMMIT = re.compile(r"(?:commit|end)\b(?! prepared\b)")
_ROLLBACK = re.compile(r"(?:rollback|abort)\b(?! prepared\b)(?! (?:work |transaction )?to\b)")
_TWO_PHASE = re.compile(r"(?:prepare transaction|commit prepared|rollback prepared)\b")
_MODES_OF_BEGIN = re.compile(r"(?:begin|start)(?: (?:work|transaction))?\b ?(?P<modes>.*)", re.IGNORECASE)
_SETS = re.compile(r"(?:set|reset)\b", re.IGNORECASE)
# These must come before the first query of their transaction.
_SET_MODES = re.compile(r"set (?:local |session )?transaction(?:\b|_)")
_ROWS = re.compile(r"(?:insert|update|delete)\b", re.IGNORECASE)
_LONGEST_GROUP = 256 * 1024


@dataclass(frozen=True)
class Transaction:
    """Statements that run in one transaction, without BEGIN and COMMIT. `commits` is False for a ROLLBACK."""

    statements: tuple[Statement, ...]
    commits: bool = True

    def without_modes(self) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
        """Return the statements that set the transaction's modes, and the others.

        The server accepts modes only before the first query. A SET or RESET before them is not a query, so the modes
        can be set first of all, even before the migrator's own statements.
        """
        settings = tuple(takewhile(lambda statement: _SETS.match(statement.text), self.statements))
        modes = tuple(statement for statement in settings if _SET_MODES.match(statement.head))
        others = tuple(statement for statement in settings if not _SET_MODES.match(statement.head))
        return modes, others + self.statements[len(settings) :]


def transactions_of(statements: Iterable[Statement]) -> tuple[Transaction, ...]:
    """Split a script at its COMMITs and ROLLBACKs. There is at least one transaction, which may be empty."""
    done: list[Transaction] = []
    current: list[Statement] = []
    for statement in statements:
        if not _CONTROL.match(statement.text):
            current.append(statement)
        elif _COMMIT.match(statement.head) or _ROLLBACK.match(statement.head):
            done.append(Transaction(tuple(current), _COMMIT.match(statement.head) is not None))
            current = []
        elif not _BEGIN.match(statement.head):
            current.append(statement)
        elif modes := modes_of_begin(statement):
            current.append(Statement(f"SET TRANSACTION {modes}", statement.offset))
    if current or not done:
        done.append(Transaction(tuple(current)))
    return tuple(done)


def controls_transaction(statement: Statement) -> bool:
    """Return whether the statement begins or ends a transaction."""
    if not _CONTROL.match(statement.text):
        return False
    return any(form.match(statement.head) for form in (_BEGIN, _COMMIT, _ROLLBACK, _TWO_PHASE))


def modes_of_begin(statement: Statement) -> str:
    """Return the modes of a BEGIN or START TRANSACTION, such as `ISOLATION LEVEL SERIALIZABLE`, or an empty string."""
    match = _MODES_OF_BEGIN.match(statement.plain)
    return match["modes"] if match else ""


def is_two_phase(statement: Statement) -> bool:
    """Return whether the statement is PREPARE TRANSACTION, COMMIT PREPARED or ROLLBACK PREPARED."""
    return _CONTROL.match(statement.text) is not None and _TWO_PHASE.match(statement.head) is not None


@dataclass(frozen=True)
class Group:
    """Statements that are sent together. `text` is the part of the file from the first to the last of them."""

    text: Statement
    count: int


def groups(sql: str, statements: Iterable[Statement], apart: Collection[int]) -> Iterator[Group]:
    """Yield the statements of the script `sql` in groups. Only statements that change rows share a group.

    Statements that change rows take only locks that do not block other queries, and may be very many. A group that
    begins at an offset of `apart` is yielded statement by statement.
    """
    for has_rows, run in groupby(statements, lambda statement: _ROWS.match(statement.text) is not None):
        for members in _within_limit(run) if has_rows else ([each] for each in run):
            if len(members) == 1 or members[0].offset in apart:
                yield from (Group(each, 1) for each in members)
            else:
                begin, last = members[0].offset, members[-1]
                yield Group(Statement(sql[begin : last.offset + len(last.text)], begin), len(members))


def _within_limit(statements: Iterable[Statement]) -> Iterator[list[Statement]]:
    group: list[Statement] = []
    for statement in statements:
        if group and statement.offset + len(statement.text) - group[0].offset > _LONGEST_GROUP:
            yield group
            group = []
        group.append(statement)
    if group:
        yield group
