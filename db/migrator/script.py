"""A migration's SQL text, split into statements as psql splits it.

Only the boundaries are found here: whether a statement is valid is the server's to say. What is left
unterminated (a quote, a comment) becomes the last statement, and the server names the fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

TokenKind = Literal["blank", "literal", "word", "number", "other"]
BYTE_ORDER_MARK = "\ufeff"

# Said by what is left out: a range up to the last character takes 100 ms to compile, and 700 where case is ignored.
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
# The statements whose body may be BEGIN ATOMIC ... END, with semicolons of its own.
_ROUTINE = re.compile(r"create (?:or replace )?(?:function|procedure)\b")
_HEAD_WORDS = 5


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon. `offset` is its first character's place in the script, from 0.

    `head` is its first words in lower case, quoted names and comments left out: enough to tell its kind.
    """

    text: str
    offset: int
    head: str


def split_statements(sql: str) -> tuple[Statement, ...]:
    """The statements of a script in order; what is only blanks and comments is none."""
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
    """Every token of a script: its kind, its text, and its place from 0; together they are the script.

    Comments and a leading byte order mark are `blank`; a quoted name is a `literal`, for it may hold anything.
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
            # An open one stays in, or the server would never see the fault and what it hides.
            kind = "blank" if is_closed else "literal"
        elif kind == "dollar":
            closing = sql.find(token.group(), position)
            position = len(sql) if closing < 0 else closing + len(token.group())
            kind = "literal"
        yield cast(TokenKind, kind), sql[begin:position], begin


def line_at(sql: str, offset: int) -> int:
    """The line, from 1, of a character's place in a script."""
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
