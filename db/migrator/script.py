"""Split a migration's SQL into statements, as psql does.

This finds only the boundaries; the server checks the statements. An unterminated quote or comment becomes part of the
last statement, so that the server reports the error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, cast

TokenKind = Literal["blank", "literal", "word", "number", "other"]
BYTE_ORDER_MARK = "\ufeff"

# As negated classes: a range up to the last character takes 100 ms to compile, and 700 ms with IGNORECASE.
LETTER = r"[^\x00-@\[-^`{-\x7f]"
LETTER_OR_DIGIT = r"[^\x00-/:-@\[-^`{-\x7f]"
LETTER_DIGIT_OR_DOLLAR = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
_ESCAPED = r"'(?:[^'\\]|\\.|'')*+'"
# What the server allows between the parts of a literal (whitespace_with_newline of its scan.l): a line end, and before
# and after it blanks and comments with `--`. Each part of E'...' has escapes.
_BETWEEN_PARTS = r"(?:[ \t\f\v]|--[^\r\n]*+)*+[\r\n](?:[ \t\n\r\f\v]|--[^\r\n]*+[\r\n])*+"
_TOKEN = re.compile(
    rf"""
      (?P<blank>     [ \t\n\r\f\v]+ | --[^\r\n]* )
    | (?P<comment>   /\* )
    | (?P<literal>   [eE]{_ESCAPED}? (?: {_BETWEEN_PARTS} {_ESCAPED}? )*+
                   | '(?:[^']|'')*+'?
                   | "(?:[^"]|"")*+"? )
    | (?P<dollar>    \$ (?: {LETTER}{LETTER_OR_DIGIT}*+ )? \$ )
    | (?P<word>      {LETTER}{LETTER_DIGIT_OR_DOLLAR}*+ )
    | (?P<number>    (?<=\$)[0-9]++ | [0-9] (?: \. | {LETTER_OR_DIGIT} )*+ )
    | (?P<other>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMPLETE = re.compile(
    rf"""
      [eE]{_ESCAPED} (?: {_BETWEEN_PARTS} {_ESCAPED} )*+
    | '(?:[^']|'')*+'
    | "(?:[^"]|"")*+"
    | (?P<tag> \$[^$]*+\$ ) .* (?P=tag)
    """,
    re.VERBOSE | re.DOTALL,
)
_CONTINUED = re.compile(_BETWEEN_PARTS)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
# Statements whose body may be BEGIN ATOMIC ... END, which contains semicolons.
_ROUTINE = re.compile(r"create (?:or replace )?(?:function|procedure)\b")
_ROUTINE_WORDS = 4
_HEAD_WORDS = 5
_BLANKS = " \t\n\r\f\v"


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon. `offset` is the position of its first character in the script, from 0."""

    text: str
    offset: int

    @cached_property
    def head(self) -> str:
        """The first words in lower case, without quoted names and comments. They identify the kind of statement."""
        words: list[str] = []
        for kind, text, _ in _tokens_from(self.text, 0):
            if kind == "word":
                words.append(text.lower())
                if len(words) == _HEAD_WORDS:
                    break
        return " ".join(words)

    @cached_property
    def plain(self) -> str:
        """The text without comments, and with one blank between all tokens: `CREATE INDEX i ON a . b ( c )`."""
        return " ".join(text for kind, text, _ in _tokens_from(self.text, 0) if kind != "blank")


def split_statements(sql: str) -> tuple[Statement, ...]:
    """Return the statements of a script in order. Text with only blanks and comments is not a statement."""
    plain = _plain_statement()
    statements: list[Statement] = []
    position = len(BYTE_ORDER_MARK) if sql.startswith(BYTE_ORDER_MARK) else 0
    while position < len(sql):
        if match := plain.match(sql, position):
            statements.append(Statement(match["text"].rstrip(_BLANKS), match.start("text")))
            position = match.end()
            continue
        statement, position = _next_statement(sql, position)
        if statement is not None:
            statements.append(statement)
    return tuple(statements)


def first_line(text: str, width: int = 80) -> str:
    """Return the first line of a statement, shortened for a message."""
    line = text.strip().split("\n", 1)[0].rstrip()
    return line if len(line) <= width and line == text.strip() else line[: width - 3].rstrip() + "..."


def _next_statement(sql: str, position: int) -> tuple[Statement | None, int]:
    """Return the statement that begins at or after a position, if any, and the position after its semicolon."""
    start: int | None = None
    end = parentheses = blocks = 0
    words: list[str] = []
    is_routine = False
    for kind, text, begin in _tokens_from(sql, position):
        if kind == "blank":
            continue
        if text == "(":
            parentheses += 1
        elif text == ")":
            parentheses = max(parentheses - 1, 0)
        elif kind == "word":
            word = text.lower()
            if len(words) < _ROUTINE_WORDS:
                words.append(word)
                is_routine = _ROUTINE.match(" ".join(words)) is not None
            if parentheses == 0 and is_routine:
                # CASE ends with END too, but counts only inside a block.
                blocks += (word == "begin") + (word == "case" and blocks > 0) - (word == "end" and blocks > 0)
        elif text == ";" and parentheses == 0 and blocks == 0:
            return None if start is None else Statement(sql[start:end], start), begin + 1
        start = begin if start is None else start
        end = begin + len(text)
    return None if start is None else Statement(sql[start:end], start), len(sql)


@cache
def _plain_statement() -> re.Pattern[str]:
    """Return a pattern that matches a usual statement as a whole, with the comments before it.

    The pattern is about twenty times as fast as the tokenizer. It does not match a statement with comments inside,
    dollar quotes, escaped literals or deeply nested parentheses, and no CREATE, whose body may contain semicolons.
    """
    part = rf"""(?: [\x01-!#%&*+,.:<-@\[-^`{{-\x7f]++ | (?![eE]'){LETTER}{LETTER_DIGIT_OR_DOLLAR}*+
                  | [0-9](?:\.|{LETTER_OR_DIGIT})*+ | '(?:[^']|'')*+' | "(?:[^"]|"")*+" | -(?!-) | /(?!\*) )"""
    nested = rf"\((?:{part}|;)*+\)"
    for _ in range(3):
        nested = rf"\((?:{part}|;|{nested})*+\)"
    return re.compile(
        rf"""
        (?: [ \t\n\r\f\v]++ | --[^\r\n]*+ )*+
        (?P<text> (?![cC][rR][eE][aA][tT][eE]\b)(?={LETTER})(?:{part}|{nested})*+ ) ;
        """,
        re.VERBOSE,
    )


def tokens(sql: str) -> Iterator[tuple[TokenKind, str, int]]:
    """Yield every token of a script as (kind, text, offset from 0). The concatenated texts are the script.

    Comments and a leading byte order mark are `blank`. A quoted name is a `literal`, because it may contain any
    character.
    """
    position = 0
    if sql.startswith(BYTE_ORDER_MARK):
        yield "blank", BYTE_ORDER_MARK, 0
        position = len(BYTE_ORDER_MARK)
    yield from _tokens_from(sql, position)


def _tokens_from(sql: str, position: int) -> Iterator[tuple[TokenKind, str, int]]:
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


def unterminated_at(sql: str) -> int | None:
    """Return the offset of the quote or comment that a script does not close, or None."""
    for kind, text, begin in tokens(sql):
        if kind == "literal" and _COMPLETE.fullmatch(text) is None:
            return begin
    return None


def continues_literal(blanks: str) -> bool:
    """Return whether two literals with these blanks and comments between them are the parts of a single one."""
    return _CONTINUED.fullmatch(blanks) is not None


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
