"""Recognise what a statement creates, drops, renames or grants, from its first words.

This is not a parser. A statement that it does not recognise, such as a DO block, has no effects here, so callers must
not rely on completeness. Names are folded as the server folds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from db.migrator.script import Statement, tokens

Verb = Literal["create", "drop", "rename", "grant"]
# There may be many other, long statements, and splitting them into words is slow.
_VERBS = re.compile(r"(?:create|drop|alter|grant)\b|(?:select|with)\b.*\binto\b", re.IGNORECASE | re.DOTALL)
_MODIFIERS = {
    "or",
    "replace",
    "global",
    "local",
    "temp",
    "temporary",
    "unlogged",
    "unique",
    "recursive",
    "constraint",
}
_KINDS = {
    "table",
    "index",
    "view",
    "sequence",
    "type",
    "domain",
    "function",
    "procedure",
    "routine",
    "aggregate",
    "trigger",
    "schema",
    "collation",
    "extension",
}
ROUTINES = {"function", "procedure", "routine", "aggregate"}
# The session's own schema, which is searched first, but not for routines.
TEMPORARY_SCHEMA = "pg_temp"
# Words after ALTER TABLE ... ADD or DROP that do not start a column.
_NO_COLUMN = {"constraint", "check", "foreign", "primary", "unique", "exclude"}


@dataclass(frozen=True)
class Effect:
    """One effect of a statement. `on` is the table of an index, trigger or column; `to` is the new name.

    `schema` is the schema as written, of the object or of the table that it is on; None if the name is not qualified.
    `to_schema` is the new schema of SET SCHEMA, which counts as a rename. `arguments` is the text of a routine's
    argument list, None without one. An effect `is_conditional` if the object may have existed before: IF NOT EXISTS, OR
    REPLACE. A created table, view or sequence `is_temporary` if it is only the session's.
    """

    verb: Verb
    kind: str
    name: str
    on: str | None = None
    to: str | None = None
    is_concurrent: bool = False
    is_partition: bool = False
    schema: str | None = None
    arguments: str | None = None
    is_conditional: bool = False
    is_temporary: bool = False
    to_schema: str | None = None


def effects(statement: Statement) -> tuple[Effect, ...]:
    """Return the effects of one statement in order; empty if it is not recognised."""
    if not _VERBS.match(statement.text):
        return ()
    words = _Words(statement.text)
    verb = words.take()
    if verb == "create":
        return tuple(_created(words))
    if verb == "drop":
        return tuple(_dropped(words))
    if verb == "alter":
        return tuple(_altered(words))
    if verb == "grant":
        return tuple(_granted(words))
    return tuple(_selected(words))


class _Words:
    """The tokens of a statement, read one by one. Names are without quotes, words in lower case."""

    def __init__(self, text: str) -> None:
        self._words = [
            # A quoted name is not a keyword: "table" is not TABLE.
            (word[1:-1].replace('""', '"') if word.startswith('"') else word.lower(), kind == "word")
            for kind, word, _ in tokens(text)
            if kind != "blank"
        ]
        self._place = 0
        self.schema: str | None = None

    def peek(self) -> str | None:
        """Return the next token if it may be a keyword or a symbol."""
        if self._place >= len(self._words):
            return None
        word, is_word = self._words[self._place]
        return word if is_word or not word[:1].isalpha() else None

    def take(self) -> str | None:
        word = self.peek()
        self._place += 1
        return word

    def skip(self, *words: str) -> bool:
        """Skip these words if they come next, and return whether they did."""
        ahead = [word for word, _ in self._words[self._place : self._place + len(words)]]
        if ahead != list(words):
            return False
        self._place += len(words)
        return True

    def name(self) -> str | None:
        """Parse an identifier and strip its qualifier, which `schema` is set to."""
        name = self.schema = None
        while self._place < len(self._words):
            name, self.schema = self._words[self._place][0], name
            self._place += 1
            if not self.skip("."):
                break
        return name

    def arguments(self) -> str | None:
        """Return the text of a list of arguments, without its parentheses and with single blanks, if it comes next."""
        if self.peek() != "(":
            return None
        start = self._place + 1
        self.until(")")
        return " ".join(word for word, _ in self._words[start : self._place - 1])

    def until(self, *stops: str) -> bool:
        """Skip to after the next of these words outside parentheses. Return False at the end of the statement."""
        depth = 0
        while self._place < len(self._words):
            word = self.take()
            depth += (word == "(") - (word == ")")
            if depth == 0 and word in stops:
                return True
        return False

    def names(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Yield comma-separated names with their schema, and the arguments of functions."""
        while (name := self.name()) is not None:
            yield name, self.schema, self.arguments()
            if not self.skip(","):
                return


def _kind(words: _Words) -> str | None:
    if words.skip("materialized", "view"):
        return "view"
    if words.skip("foreign", "table"):
        return "table"
    kind = words.take()
    return kind if kind in _KINDS else None


def _created(words: _Words) -> Iterator[Effect]:
    is_temporary = is_conditional = False
    while words.peek() in _MODIFIERS:
        modifier = words.take()
        is_temporary |= modifier in {"temp", "temporary"}
        is_conditional |= modifier == "replace"
    kind = _kind(words)
    if kind is None:
        return
    is_concurrent = words.skip("concurrently")
    is_conditional |= words.skip("if", "not", "exists")
    if kind == "index":
        name = "" if words.peek() == "on" else words.name() or ""
        words.skip("on")
        words.skip("only")
        on = words.name()
        yield Effect(
            "create",
            kind,
            name,
            on=on,
            is_concurrent=is_concurrent,
            schema=words.schema,
            is_conditional=is_conditional,
        )
    elif kind == "trigger":
        name = words.name() or ""
        words.until("on")
        on = words.name()
        yield Effect("create", kind, name, on=on, schema=words.schema, is_conditional=is_conditional)
    elif (name := words.name() or "") and not (kind == "schema" and name == "authorization"):
        schema = words.schema
        is_temporary |= schema == TEMPORARY_SCHEMA
        arguments = words.arguments() if kind in ROUTINES else None
        yield Effect(
            "create",
            kind,
            name,
            is_partition=words.skip("partition", "of"),
            schema=schema,
            arguments=arguments,
            # A temporary object of an earlier session is gone.
            is_conditional=is_conditional and not is_temporary,
            is_temporary=is_temporary,
        )


def _selected(words: _Words) -> Iterator[Effect]:
    """Yield the table that SELECT ... INTO creates."""
    if not words.until("into", "insert", "merge") or words.peek() == "into":
        return
    is_temporary = False
    while words.peek() in _MODIFIERS | {"table"}:
        is_temporary |= words.take() in {"temp", "temporary"}
    name = words.name() or ""
    is_temporary |= words.schema == TEMPORARY_SCHEMA
    yield Effect("create", "table", name, schema=words.schema, is_temporary=is_temporary)


def _dropped(words: _Words) -> Iterator[Effect]:
    kind = _kind(words)
    if kind is None:
        return
    is_concurrent = words.skip("concurrently")
    words.skip("if", "exists")
    if kind == "trigger":
        name = words.name() or ""
        words.skip("on")
        on = words.name()
        yield Effect("drop", kind, name, on=on, schema=words.schema)
        return
    for name, schema, arguments in words.names():
        yield Effect("drop", kind, name, is_concurrent=is_concurrent, schema=schema, arguments=arguments)


def _altered(words: _Words) -> Iterator[Effect]:
    kind = _kind(words)
    if kind is None:
        return
    words.skip("if", "exists")
    words.skip("only")
    name = words.name() or ""
    schema = words.schema
    words.skip("*")
    arguments = words.arguments()
    while True:
        action = words.take()
        if action == "rename":
            yield from _renamed(words, Effect("rename", kind, name, schema=schema, arguments=arguments))
        elif action == "set" and words.skip("schema"):
            # The name of an extension is never qualified.
            moved_to = None if kind == "extension" else words.name()
            yield Effect(
                "rename", kind, name, to=name, schema=schema, arguments=arguments, to_schema=moved_to
            )
        elif action in {"add", "drop"} and (
            (kind == "table" and words.peek() not in _NO_COLUMN)
            or (kind == "type" and words.peek() == "attribute")
        ):
            words.skip("attribute" if kind == "type" else "column")
            is_conditional = words.skip("if", "not", "exists")
            words.skip("if", "exists")
            verb: Verb = "create" if action == "add" else "drop"
            column = words.name() or ""
            yield Effect(verb, "column", column, on=name, schema=schema, is_conditional=is_conditional)
        if not words.until(","):
            return


def _renamed(words: _Words, renamed: Effect) -> Iterator[Effect]:
    if words.skip("to"):
        yield replace(renamed, to=words.name())
    elif not words.skip("constraint"):
        words.skip("attribute" if renamed.kind == "type" else "column")
        column = words.name() or ""
        words.skip("to")
        yield Effect("rename", "column", column, on=renamed.name, to=words.name(), schema=renamed.schema)


def _granted(words: _Words) -> Iterator[Effect]:
    if not words.until("on"):
        return
    if words.skip("all", "tables", "in", "schema"):
        for in_schema, _, _ in words.names():
            yield Effect("grant", "table", "*", schema=in_schema)
    elif words.peek() in {"sequence", "function", "schema", "type", "database", "all"}:
        return
    else:
        words.skip("table")
        for name, schema, _ in words.names():
            yield Effect("grant", "table", name, schema=schema)
