"""Split a migration's SQL into statements, as psql does.

This finds only the boundaries; the server checks the statements. An unterminated quote or comment becomes part of the
last statement, so that the server reports the error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

TokenKind = Literal["blank", "literal", "word", "number", "other"]
BYTE_ORDER_MARK = "\ufeff"

# As negated classes: a range up to the last character takes 100 ms to compile, and 700 ms with IGNORECASE.
LETTER = r"[^\x00-@\[-^`{-\x7f]"
LETTER_OR_DIGIT = r"[^\x00-/:-@\[-^`{-\x7f]"
LETTER_DIGIT_OR_DOLLAR = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
_ESCAPED = r"'(?:[^'\\]|\\.|'')*+'?"
_TOKEN = re.compile(
    rf"""
      (?P<blank>     [ \t\n\r\f\v]+ | --[^\r\n]* )
    | (?P<comment>   /\* )
    | (?P<literal>   [eE]{_ESCAPED} (?: [ \t\r\f\v]*+ \n [ \t\n\r\f\v]*+ {_ESCAPED} )*+
                   | '(?:[^']|'')*+'?
                   | "(?:[^"]|"")*+"? )
    | (?P<dollar>    \$ (?: {LETTER}{LETTER_OR_DIGIT}*+ )? \$ )
    | (?P<word>      {LETTER}{LETTER_DIGIT_OR_DOLLAR}*+ )
    | (?P<number>    [0-9] (?: \. | {LETTER_OR_DIGIT} )*+ )
    | (?P<other>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
# Statements whose body may be BEGIN ATOMIC ... END, which contains semicolons.
_ROUTINE = re.compile(r"create (?:or replace )?(?:function|procedure)\b")
_HEAD_WORDS = 5


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon. `offset` is the position of its first character in the script, from 0.

    `head` is the first words in lower case, without quoted names and comments. It identifies the kind of statement.
    """

    text: str
    offset: int
    head: str


def split_statements(sql: str) -> tuple[Statement, ...]:
    """Return the statements of a script in order. Text with only blanks and comments is not a statement."""
    statements: list[Statement] = []
    start: int | None = None
    end = parentheses = blocks = 0
    words: list[str] = []
    for kind, text, begin in tokens(sql):
        if kind == "blank":
            continue
        if text == "(":
            parentheses += 1
        elif text == ")":
            parentheses = max(parentheses - 1, 0)
        elif kind == "word":
            word = text.lower()
            if len(words) < _HEAD_WORDS:
                words.append(word)
            if parentheses == 0 and _ROUTINE.match(" ".join(words)):
                # CASE ends with END too, but counts only inside a block.
                blocks += (word == "begin") + (word == "case" and blocks > 0) - (word == "end" and blocks > 0)
        elif text == ";" and parentheses == 0 and blocks == 0:
            if start is not None:
                statements.append(Statement(sql[start:end], start, " ".join(words)))
            start, words = None, []
            continue
        start = begin if start is None else start
        end = begin + len(text)
    if start is not None:
        statements.append(Statement(sql[start:end], start, " ".join(words)))
    return tuple(statements)


def tokens(sql: str) -> Iterator[tuple[TokenKind, str, int]]:
    """Yield every token of a script as (kind, text, offset from 0). The concatenated texts are the script.

    Comments and a leading byte order mark are `blank`. A quoted name is a `literal`, because it may contain any
    character.
    """
    position = 0
    if sql.startswith(BYTE_ORDER_MARK):
        yield "blank", BYTE_ORDER_MARK, 0
        position = len(BYTE_ORDER_MARK)
    while position < len(sql):
        token = _TOKEN.match(sql, position)
        assert token is not None, "the last alternative takes any character"
        kind, begin, position = str(token.lastgroup), position, token.end()
        if kind == "comment":
            position, is_closed = _end_of_comment(sql, position)
            # An unterminated comment is kept, so that the server reports it.
            kind = "blank" if is_closed else "literal"
        elif kind == "dollar":
            closing = sql.find(token.group(), position)
            position = len(sql) if closing < 0 else closing + len(token.group())
            kind = "literal"
        yield cast(TokenKind, kind), sql[begin:position], begin


def line_at(sql: str, offset: int) -> int:
    """Return the line, from 1, of an offset in a script."""
    return sql.count("\n", 0, offset) + 1


def _end_of_comment(sql: str, position: int) -> tuple[int, bool]:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, position)
        if edge is None:
            return len(sql), False
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position, True
