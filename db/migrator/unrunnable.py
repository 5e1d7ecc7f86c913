"""Find statements that the server refuses in a migration, although they work in psql or outside a transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from db.migrator.ddl import effects
from db.migrator.script import Statement, tokens
from db.migrator.source import NO_TRANSACTION, Script, ScriptProblem
from db.migrator.statement_problems import runs_outside_transaction

# The rows that follow a COPY in psql's input, up to a line with only a backslash and a period.
_COPIED_ROWS = re.compile(
    r"^copy\b[^;]*\bfrom\s+stdin\b[^;]*;[^\n]*\n(?P<rows>.*?^\\\.[ \t\r]*$)", re.I | re.M | re.S
)
_PSQL_COMMAND = re.compile(r"^[ \t]*(?P<command>\\[^ \t\r\n]*)[^\r\n]*", re.M)
_ALTER = re.compile(r"alter\b", re.I)
_NEW_VALUE = re.compile(
    r"alter type (?P<type>.+?) add value (?:if not exists )?(?P<value>'(?:[^']|'')*')", re.I
)


def without_psql_input(script: Script) -> tuple[Script, tuple[ScriptProblem, ...]]:
    """Return the script without psql commands and COPY rows, and the problems. Line numbers stay the same."""
    if "\\" not in script.sql:
        return script, ()
    plain = replace(script, sql=_COPIED_ROWS.sub(_without_rows, script.sql))
    sql = plain.sql
    problems: list[ScriptProblem] = []
    kept: list[str] = []
    position = 0
    while (found := _next_command(sql, position)) is not None:
        problems.append(_psql_problem(plain.line_at(found.start()), found["command"]))
        kept.append(sql[position : found.start()])
        position = found.end()
    kept.append(sql[position:])
    return replace(script, sql="".join(kept)), tuple(problems)


def unrunnable(script: Script) -> Iterator[ScriptProblem]:
    """Yield the statements of a script that the server refuses as they are."""
    for statement in script.statements:
        if not script.no_transaction and runs_outside_transaction(statement):
            yield ScriptProblem(
                script.line_of(statement),
                "needs-no-transaction",
                f"`{_first_words(statement)}` cannot run in a transaction; move it to a migration of its own that"
                f" begins with `{NO_TRANSACTION}`",
            )
    if not script.no_transaction:
        yield from _uses_of_new_values(script)


def _without_rows(match: re.Match[str]) -> str:
    return match[0].removesuffix(match["rows"]) + "\n" * match["rows"].count("\n")


def _next_command(sql: str, position: int) -> re.Match[str] | None:
    """Return the first line from a position on that begins with a backslash, outside of literals and comments."""
    if _PSQL_COMMAND.search(sql, position) is None:
        return None
    for kind, text, place in tokens(sql[position:]):
        if kind == "other" and text == "\\":
            start = sql.rfind("\n", 0, position + place) + 1
            if match := _PSQL_COMMAND.match(sql, start):
                return match
    return None


def _psql_problem(line: int, command: str) -> ScriptProblem:
    if command.strip("\\") in {"restrict", "unrestrict"}:
        message = f"pg_dump writes {command} for psql, and the server does not know it; remove this line"
    else:
        message = f"{command} is a command of psql, and the server does not know it; remove it, or write SQL"
    return ScriptProblem(line, "psql-command", message)


def _uses_of_new_values(script: Script) -> Iterator[ScriptProblem]:
    created: set[str] = set()
    added: dict[str, str] = {}
    for statement in script.statements:
        if _ALTER.match(statement.text) and (match := _NEW_VALUE.match(statement.plain)):
            name = match["type"].rpartition(".")[2].strip(' "')
            if name.lower() not in created:
                added[match["value"]] = name
            continue
        created |= {
            each.name.lower() for each in effects(statement) if (each.verb, each.kind) == ("create", "type")
        }
        for value, name in added.items():
            if _contains(statement, value):
                yield ScriptProblem(
                    script.line_of(statement),
                    "new-enum-value",
                    f"this file adds {value} to {name}, and a new value cannot be used before its transaction has"
                    " ended; use it in a later migration",
                )
                break


def _contains(statement: Statement, value: str) -> bool:
    if value not in statement.text:
        return False
    # The server runs the body of DO, but only stores that of a function.
    return statement.head.startswith("do") or any(text == value for _, text, _ in tokens(statement.text))


def _first_words(statement: Statement) -> str:
    words = statement.head.upper().split()
    last = words.index("CONCURRENTLY") + 1 if "CONCURRENTLY" in words else 1 if words[0] == "VACUUM" else 2
    return " ".join(words[:last])
