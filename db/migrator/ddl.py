"""Recognise what a statement creates, drops, renames or grants, from its first words.

This is not a parser. A statement that it does not recognise, such as a DO block, has no effects here, so callers must
not rely on completeness. Names are folded as the server folds them, without their schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from db.migrator.script import Statement, tokens

Verb = Literal["create", "drop", "rename", "grant"]
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
    "trigger",
    "schema",
}
# Words after ALTER TABLE ... ADD or DROP that do not start a column.
_NO_COLUMN = {"constraint", "check", "foreign", "primary", "unique", "exclude"}


@dataclass(frozen=True)
class Effect:
    """One effect of a statement. `on` is the table of an index, trigger or column; `to` is the new name."""

    verb: Verb
    kind: str
    name: str
    on: str | None = None
    to: str | None = None
    is_concurrent: bool = False
    is_partition: bool = False


def effects(statement: Statement) -> tuple[Effect, ...]:
    """Return the effects of one statement in order; empty if it is not recognised."""
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
    return ()


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
        """Parse an identifier and strip its schema qualifier."""
        name = None
        while self._place < len(self._words):
            name = self._words[self._place][0]
            self._place += 1
            if not self.skip("."):
                break
        return name

    def until(self, *stops: str) -> bool:
        """Skip to after the next of these words outside parentheses. Return False at the end of the statement."""
        depth = 0
        while self._place < len(self._words):
            word = self._words[self._place][0]
            self._place += 1
            depth += (word == "(") - (word == ")")
            if depth == 0 and word in stops:
                return True
        return False

    def names(self) -> Iterator[str]:
        """Yield comma-separated names, skipping the arguments of functions."""
        while (name := self.name()) is not None:
            yield name
            if self.peek() == "(":
                self.until(")")
            if not self.skip(","):
                return


def _kind(words: _Words) -> str | None:
    if words.skip("materialized", "view"):
        return "view"
    kind = words.take()
    return kind if kind in _KINDS else None


def _created(words: _Words) -> Iterator[Effect]:
    is_temporary = False
    while words.peek() in _MODIFIERS:
        is_temporary |= words.take() in {"temp", "temporary"}
    kind = _kind(words)
    if kind is None or is_temporary:
        return
    is_concurrent = words.skip("concurrently")
    words.skip("if", "not", "exists")
    if kind == "index":
        name = "" if words.peek() == "on" else words.name() or ""
        words.skip("on")
        words.skip("only")
        yield Effect("create", kind, name, on=words.name(), is_concurrent=is_concurrent)
    elif kind == "trigger":
        name = words.name() or ""
        words.until("on")
        yield Effect("create", kind, name, on=words.name())
    elif (name := words.name() or "") and not (kind == "schema" and name == "authorization"):
        yield Effect("create", kind, name, is_partition=words.skip("partition", "of"))


def _dropped(words: _Words) -> Iterator[Effect]:
    kind = _kind(words)
    if kind is None:
        return
    is_concurrent = words.skip("concurrently")
    words.skip("if", "exists")
    if kind == "trigger":
        name = words.name() or ""
        words.skip("on")
        yield Effect("drop", kind, name, on=words.name())
        return
    for name in words.names():
        yield Effect("drop", kind, name, is_concurrent=is_concurrent)


def _altered(words: _Words) -> Iterator[Effect]:
    kind = _kind(words)
    if kind is None:
        return
    words.skip("if", "exists")
    words.skip("only")
    name = words.name() or ""
    words.skip("*")
    if words.peek() == "(":
        words.until(")")
    while True:
        action = words.take()
        if action == "rename":
            yield from _renamed(words, kind, name)
        elif kind == "table" and action in {"add", "drop"} and words.peek() not in _NO_COLUMN:
            words.skip("column")
            words.skip("if", "not", "exists")
            words.skip("if", "exists")
            yield Effect("create" if action == "add" else "drop", "column", words.name() or "", on=name)
        if not words.until(","):
            return


def _renamed(words: _Words, kind: str, name: str) -> Iterator[Effect]:
    if words.skip("to"):
        yield Effect("rename", kind, name, to=words.name())
    elif not words.skip("constraint"):
        words.skip("column")
        column = words.name() or ""
        words.skip("to")
        yield Effect("rename", "column", column, on=name, to=words.name())


def _granted(words: _Words) -> Iterator[Effect]:
    if not words.until("on"):
        return
    if words.skip("all", "tables", "in", "schema"):
        yield Effect("grant", "table", "*")
    elif words.peek() in {"sequence", "function", "schema", "type", "database", "all"}:
        return
    else:
        words.skip("table")
        for name in words.names():
            yield Effect("grant", "table", name)
