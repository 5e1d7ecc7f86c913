"""Commands and answers in RESP3, the protocol of Redis, without the layers of redis-py's parser.

A connection class of redis-py gets `read_answers` from `AsyncAnswers` or `Answers`. `read_answers` takes a quarter of
the time of `read_response`. An answer of a type that no command of the cache returns ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

_READ_BYTES = 1 << 16
_BULK, _ARRAY, _NULL, _NUMBER, _SIMPLE, _ERROR = b"$*_:+-"
# The types that begin with a size. A verbatim string (=) begins with its format, as in `txt:`.
_SIZED = frozenset(b"$=")


def packed(*parts: str) -> bytes:
    """Return an ASCII command in the RESP protocol. redis-py's encoder copies its buffer for every key."""
    body = "".join([f"${len(part)}\r\n{part}\r\n" for part in parts])
    # RESP counts bytes, and len() counts characters. For ASCII both numbers are the same.
    return f"*{len(parts)}\r\n{body}".encode("ascii")


def parsing(count: int, error_of: Callable[[str], Exception]) -> Generator[None, bytes, list[Any]]:
    """Parse `count` answers from the bytes that are sent in, and return them. Yields when it needs more bytes.

    An error of the server is among the answers, as an exception made by `error_of`. Raises ConnectionError if the
    error means that the server ends the connection, or if the server sends more than was asked for.
    """
    answers: list[Any] = []
    into, missing = answers, count
    # The enclosing arrays, each with the number of its missing elements.
    outer: list[tuple[list[Any], int]] = []
    data, at = (yield), 0
    while True:
        while not missing:
            if not outer:
                if at != len(data):
                    raise RedisConnectionError("Redis sent more than was asked for")
                return answers
            into, missing = outer.pop()
        missing -= 1
        while (end := data.find(b"\r\n", at)) < 0:
            data, at = data[at:] + (yield), 0
        kind, start = data[at], end + 2
        if kind in _SIZED:
            size = int(data[at + 1 : end])
            if size < 0:
                raise ValueError("a value has a negative size")
            if start + size + 2 > len(data):
                # In a list, because appending to bytes would copy a large value again and again.
                chunks = [data[start:]]
                lacking = size + 2 - len(chunks[0])
                while lacking > 0:
                    chunks.append((yield))
                    lacking -= len(chunks[-1])
                data, start = b"".join(chunks), 0
            at = start + size + 2
            into.append(data[start if kind == _BULK else start + 4 : at - 2])
            continue
        text, at = data[at + 1 : end], start
        if kind == _ARRAY:
            array: list[Any] = []
            into.append(array)
            outer.append((into, missing))
            into, missing = array, int(text)
        elif kind == _NULL:
            into.append(None)
        elif kind == _NUMBER:
            into.append(int(text))
        elif kind == _SIMPLE:
            into.append(text)
        elif kind == _ERROR:
            error = error_of(text.decode(errors="replace"))
            if isinstance(error, RedisConnectionError):
                raise error
            into.append(error)
        else:
            raise InvalidResponse(f"Redis sent an answer of an unknown type: {chr(kind)!r}")


def _still_open(received: bytes) -> bytes:
    if not received:
        raise RedisConnectionError("Redis closed the connection")
    return received


class AsyncAnswers:
    """Reads the answers of an async connection of redis-py."""

    _reader: Any
    _parser: Any

    async def read_answers(self, count: int) -> list[Any]:
        """Read the answers to `count` commands, with the server's errors among them."""
        answers = parsing(count, self._parser.parse_error)
        next(answers)
        try:
            while True:
                answers.send(_still_open(await self._reader.read(_READ_BYTES)))
        except StopIteration as read:
            result: list[Any] = read.value
            return result
        except ValueError as error:
            raise InvalidResponse(f"Redis sent an invalid answer: {error}") from error


class Answers:
    """The sync counterpart."""

    _sock: Any
    _parser: Any

    def read_answers(self, count: int) -> list[Any]:
        """Read the answers to `count` commands, with the server's errors among them."""
        answers = parsing(count, self._parser.parse_error)
        next(answers)
        try:
            while True:
                answers.send(_still_open(self._sock.recv(_READ_BYTES)))
        except StopIteration as read:
            result: list[Any] = read.value
            return result
        except ValueError as error:
            raise InvalidResponse(f"Redis sent an invalid answer: {error}") from error
