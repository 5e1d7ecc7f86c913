"""Check the files of migrations without a server.

Each finding has the name of a rule. The comment `-- lint-ignore: rule, rule` directly before a statement, or among the
first comments of a file, disables those rules for the statement or the file.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from db.migrator.ddl import ROUTINES, TEMPORARY_SCHEMA, Effect, effects
from db.migrator.phase import PHASES, declared_phases, header_lines
from db.migrator.script import BYTE_ORDER_MARK, tokens
from db.migrator.source import NO_TRANSACTION, Migration, Script
from db.migrator.unrunnable import unrunnable, without_psql_input

# Rule to what it finds. docs/migrations.md lists them.
RULES = {
    "missing-down": "a migration without a down file",
    "missing-grant": "a new table without a GRANT in the same file",
    "contract-in-expand": "DROP, RENAME or SET SCHEMA of what running code may use, in an expand migration",
    "blocking-index": "CREATE INDEX without CONCURRENTLY on a table that exists",
    "no-transaction": "a no-transaction header that is not at the first byte, or more than one statement under it",
    "transaction-control": "BEGIN, COMMIT or ROLLBACK",
    "nameless-index": "CREATE INDEX CONCURRENTLY without a name",
    "phase": "a phase header that is invalid, comes too late, or is in a down file",
    "byte-order-mark": "a byte order mark, which sqlx-cli would send to the server",
    "psql-command": "a psql command, such as \\restrict or \\connect",
    "copy-stdin": "COPY ... FROM stdin or TO stdout, whose rows only psql sends and reads",
    "needs-no-transaction": "VACUUM, CONCURRENTLY and similar statements without the no-transaction header",
    "new-enum-value": "use of an enum value in the file that adds it",
    "file-name": "a file that looks like a migration but is ignored, rejected or taken for another kind",
}
_IGNORE = re.compile(r"lint-ignore:(?P<rules>[a-z, \t-]+)")
_NEARLY_NO_TRANSACTION = re.compile(r"--\s*no[-_ ]?transaction\b", re.IGNORECASE)
_USED_BY_CODE = {
    *("table", "column", "view", "sequence", "type", "domain", "schema", "collation", "extension"),
    *ROUTINES,
}


@dataclass(frozen=True)
class LintFinding:
    """One problem. `line` is from 1, `rule` is the rule's name, `message` says what to do."""

    path: Path
    line: int
    rule: str
    message: str


def lint_migrations(
    migrations: Iterable[Migration], rules: Container[str] = frozenset(RULES)
) -> tuple[LintFinding, ...]:
    """Apply these of groundwork's own rules, and return the findings by file and line."""
    findings: list[LintFinding] = []
    for migration in migrations:
        up, commands = _read(migration.up)
        findings += _not_ignored(up, [*commands, *_of_migration(migration, up), *_of_script(up)])
        if migration.down is not None:
            down, commands = _read(migration.down)
            findings += _not_ignored(down, [*commands, *_of_script(down, is_down=True)])
    kept = (finding for finding in findings if finding.rule in rules)
    return tuple(sorted(kept, key=lambda f: (f.path.name, f.line, f.rule)))


def _read(script: Script) -> tuple[Script, list[LintFinding]]:
    """Return the script without lines for psql, which would hide statements, and the findings about these lines."""
    plain, commands = without_psql_input(script)
    return plain, [_finding(script, each.line, each.rule, each.message) for each in commands]


def _of_migration(migration: Migration, up: Script) -> Iterator[LintFinding]:
    if migration.down is None:
        yield _finding(up, 1, "missing-down", f"add {migration.name}.down.sql, which reverts this")
    done = [(statement, effect) for statement in up.statements for effect in effects(statement)]
    made = _Made()
    for (statement, effect), is_settled in zip(done, _settled([each for _, each in done]), strict=True):
        line = up.line_of(statement)
        if _is_new_table(effect) and not is_settled:
            yield _finding(
                up,
                line,
                "missing-grant",
                f"only the owner may use {effect.name}; GRANT app and readonly what they need here",
            )
        if _is_contraction(effect) and not made.has_certainly(effect) and up.phase == "expand":
            yield _finding(
                up,
                line,
                "contract-in-expand",
                f"running code may still use {effect.kind} {_name(effect)}; move this to a migration with"
                " `-- phase: contract`",
            )
        if _is_blocking_index(effect) and not made.has_table(effect.schema, effect.on):
            yield _finding(
                up,
                line,
                "blocking-index",
                f"this blocks writes to {effect.on} until the index is built; use CREATE INDEX CONCURRENTLY in a"
                f" separate migration that begins with `{NO_TRANSACTION}`",
            )
        made.add(effect)


def _settled(done: Sequence[Effect]) -> list[bool]:
    """Return for each effect whether the file later grants something on the table of that name, or drops it."""
    settled: set[tuple[str | None, str | None]] = set()
    everywhere: set[str | None] = set()
    found: list[bool] = []
    # From the end, so that each name is that of the table at this place.
    for effect in reversed(done):
        key = (effect.schema, effect.name)
        # Without a schema, the table is in the first one of the search path, which is not known.
        found.append(
            key in settled or bool(everywhere and (effect.schema is None or effect.schema in everywhere))
        )
        if effect.kind != "table":
            continue
        if effect.verb == "grant" and effect.name == "*":
            everywhere.add(effect.schema)
        elif effect.verb in {"grant", "drop"}:
            settled.add(key)
        elif effect.verb == "rename":
            moved = (effect.to_schema or effect.schema, effect.to)
            is_later = moved in settled
            settled.discard(moved)
            if is_later:
                settled.add(key)
        elif not effect.is_conditional:
            settled.discard(key)
    return found[::-1]


# The names of one of these namespaces are different. Tables, views, sequences and indexes share one.
_NAMESPACES = {
    "domain": "type",
    "procedure": "function",
    "routine": "function",
    "aggregate": "function",
    "view": "table",
    "sequence": "table",
    "index": "table",
}
_Key = tuple[str, str | None, str | None, str | None]


class _Made:
    """What the statements of a file have created so far, by kind, schema, table and name.

    A name is qualified as it is written: `t` and `s.t` count as two, because the search path is not known. `pg_temp.t`
    counts as `t`, because it hides every other one.
    """

    def __init__(self) -> None:
        # The value: whether the object cannot have existed before.
        self._made: dict[_Key, bool] = {}
        self._arguments: dict[_Key, set[str | None]] = {}

    def add(self, effect: Effect) -> None:
        key = self._key(effect)
        if effect.verb == "create":
            self._made[key] = self._made.get(key, False) or not effect.is_conditional
            self._arguments.setdefault(key, set()).add(effect.arguments)
        elif effect.verb == "drop":
            self._made.pop(key, None)
        elif effect.verb == "rename" and key in self._made:
            schema = effect.to_schema or effect.schema
            renamed = self._key(replace(effect, name=str(effect.to), schema=schema))
            self._made[renamed] = self._made.pop(key)
            self._arguments[renamed] = self._arguments.pop(key, set())

    def has_table(self, schema: str | None, name: str | None, *, certainly: bool = False) -> bool:
        is_certain = self._made.get(("table", _searched(schema), None, name))
        return is_certain is not None and (is_certain or not certainly)

    def has_certainly(self, effect: Effect) -> bool:
        """Return whether the file itself has created what the effect drops or renames."""
        if effect.on is not None and self.has_table(effect.schema, effect.on, certainly=True):
            return True
        key = self._key(effect)
        if effect.arguments is not None and effect.arguments not in self._arguments.get(key, set()):
            # Another function of this name.
            return False
        return self._made.get(key, False)

    def _key(self, effect: Effect) -> _Key:
        schema = effect.schema if effect.kind in ROUTINES else _searched(effect.schema)
        return (_NAMESPACES.get(effect.kind, effect.kind), schema, _table_of(effect), effect.name)


def _searched(schema: str | None) -> str | None:
    return None if schema == TEMPORARY_SCHEMA else schema


def _name(effect: Effect) -> str:
    return ".".join(filter(None, (effect.schema, effect.on, effect.name)))


def _table_of(effect: Effect) -> str | None:
    return None if effect.kind == "index" else effect.on


def _is_new_table(effect: Effect) -> bool:
    is_new = (effect.verb, effect.kind) == ("create", "table")
    return is_new and not effect.is_partition and not effect.is_temporary


def _is_blocking_index(effect: Effect) -> bool:
    return (effect.verb, effect.kind, effect.is_concurrent) == ("create", "index", False)


def _is_contraction(effect: Effect) -> bool:
    return effect.verb in {"drop", "rename"} and effect.kind in _USED_BY_CODE


def _of_script(script: Script, *, is_down: bool = False) -> Iterator[LintFinding]:
    if script.sql.startswith(BYTE_ORDER_MARK):
        yield _finding(script, 1, "byte-order-mark", "save it as UTF-8 without a byte order mark")
    yield from _of_phase(script, is_down=is_down)
    has_late_header = False
    for line, text in header_lines(script.sql):
        if _NEARLY_NO_TRANSACTION.match(text) and not (line == 1 and script.no_transaction):
            has_late_header = True
            yield _finding(
                script,
                line,
                "no-transaction",
                f"a no-transaction header must be the file's first bytes, exactly `{NO_TRANSACTION}`; here it is a"
                " comment, and the file runs in a transaction",
            )
    for problem in (*script.problems, *unrunnable(script)):
        # Already reported above, for the header.
        if problem.rule == "needs-no-transaction" and has_late_header:
            continue
        yield _finding(script, problem.line, problem.rule, problem.message)


def _of_phase(script: Script, *, is_down: bool) -> Iterator[LintFinding]:
    for line, said in declared_phases(script.sql):
        if is_down and said in PHASES:
            yield _finding(
                script, line, "phase", "a down file has no phase; remove this header (the up file's counts)"
            )


def _not_ignored(script: Script, findings: Iterable[LintFinding]) -> Iterator[LintFinding]:
    everywhere = {rule for _, text in header_lines(script.sql) for rule in _ignored(text)}
    by_line = _ignored_by_line(script)
    for finding in findings:
        if finding.rule not in everywhere | by_line.get(finding.line, set()):
            yield finding


def _ignored_by_line(script: Script) -> dict[int, set[str]]:
    """Return the rules that the comment directly before a statement ignores, by the statement's first line."""
    starts = {statement.offset for statement in script.statements}
    found: dict[int, set[str]] = {}
    rules: set[str] = set()
    # Most files contain no such comment, and finding the tokens is slow.
    for kind, text, place in tokens(script.sql) if _IGNORE.search(script.sql) else ():
        if place in starts:
            found[script.line_at(place)] = rules
        rules = rules | _ignored(text) if kind == "blank" else set()
    return found


def _ignored(comment: str) -> set[str]:
    match = _IGNORE.search(comment)
    return {rule.strip() for rule in match["rules"].split(",")} if match else set()


def _finding(script: Script, line: int, rule: str, message: str) -> LintFinding:
    return LintFinding(script.path, line, rule, message)
