"""Commands have the same bytes as those of redis-py, and answers are read as by redis-py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from redis import exceptions
from redis._parsers.resp3 import _RESP3Parser
from redis.connection import Connection, Encoder, PythonRespSerializer

from cache.resp import Answers, AsyncAnswers, packed, parsing
from tests.cases import in_case


def test_the_bytes_are_the_same_as_redis_pys() -> None:
    cases: list[tuple[str, tuple[str, ...]]] = [
        ("one key", ("GET", "gw:main:v1:user:{7}")),
        ("more than one buffer", ("MGET", *(f"gw:main:v1:user:{{{n}}}" for n in range(300)))),
        ("an empty key", ("GET", "")),
    ]
    for name, parts in cases:
        with in_case(name):
            theirs = PythonRespSerializer(6000, Encoder("utf-8", "strict", False).encode).pack(*parts)
            assert packed(*parts) == b"".join(theirs)


def test_a_key_whose_length_in_bytes_differs_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        packed("GET", "gw:main:v1:user:{é}")


ANSWERS: dict[str, tuple[bytes, Any]] = {
    "a value": (b"$5\r\nvalue\r\n", b"value"),
    "an empty value": (b"$0\r\n\r\n", b""),
    "a value with line ends": (b"$8\r\n\r\n$1\r\nx\r\r\n", b"\r\n$1\r\nx\r"),
    "no value": (b"_\r\n", None),
    "a status": (b"+OK\r\n", b"OK"),
    "a number": (b":-12\r\n", -12),
    "a text with a format": (b"=9\r\ntxt:a\r\nb!\r\n", b"a\r\nb!"),
    "an empty array": (b"*0\r\n", []),
    "values": (b"*3\r\n$1\r\na\r\n_\r\n$2\r\nbc\r\n", [b"a", None, b"bc"]),
    "nested arrays": (b"*3\r\n*2\r\n:1\r\n*0\r\n*1\r\n*1\r\n+x\r\n$1\r\ny\r\n", [[1, []], [[b"x"]], b"y"]),
    "a large value": (b"$100000\r\n" + b"v" * 100_000 + b"\r\n", b"v" * 100_000),
}


def read(chunks: Iterable[bytes], count: int = 1) -> list[Any]:
    """Parse answers that arrive in these chunks. Raises EOFError if they are not complete."""
    answers = parsing(count, _RESP3Parser.parse_error)
    next(answers)
    try:
        for chunk in chunks:
            answers.send(chunk)
    except StopIteration as done:
        return list(done.value)
    raise EOFError


class _Socket:
    """Gives out chunks, then the end of the stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    def recv(self, size: int) -> bytes:
        return next(self._chunks, b"")

    async def read(self, size: int) -> bytes:
        return self.recv(size)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def both_forms(chunks: Iterable[bytes]) -> list[Callable[[], list[Any]]]:
    """Return functions that read an answer, one from a sync connection, one from an async connection."""
    made, other = Answers(), AsyncAnswers()
    made._sock, other._reader = _Socket(chunks), _Socket(chunks)
    made._parser = other._parser = _RESP3Parser
    return [lambda: made.read_answers(1), lambda: asyncio.run(other.read_answers(1))]


def read_by_redis_py(raw: bytes) -> Any:
    connection = Connection(protocol=3)
    connection._sock = _Socket([raw])  # type: ignore[assignment]
    # redis-py 8 has this parser from the start, older ones after HELLO.
    connection._parser = _RESP3Parser(65536)
    connection._parser.on_connect(connection)
    return connection.read_response()


def test_an_answer_is_read_as_by_redis_py() -> None:
    for which in ANSWERS:
        with in_case(which):
            raw, expected = ANSWERS[which]
            assert read([raw]) == [expected]
            assert read_by_redis_py(raw) == expected


def test_an_answer_may_arrive_in_any_parts() -> None:
    for which in ANSWERS:
        with in_case(which):
            raw, expected = ANSWERS[which]
            for place in {*range(1, min(len(raw), 60)), len(raw) - 2, len(raw) - 1}:
                assert read([raw[:place], raw[place:]]) == [expected], place
                with pytest.raises(EOFError):
                    read([raw[:place]])
            size = 1 if len(raw) < 100 else 999
            assert read(raw[at : at + size] for at in range(0, len(raw), size)) == [expected]


def test_several_answers_may_arrive_together() -> None:
    raw = b"".join(raw for raw, _ in ANSWERS.values())
    expected = [value for _, value in ANSWERS.values()]
    assert read([raw], len(expected)) == expected
    assert read([raw[:70], raw[70:200], raw[200:]], len(expected)) == expected


def test_an_error_among_answers_is_an_answer() -> None:
    cases: list[tuple[str, type[Exception]]] = [
        ("NOSCRIPT No matching script.", exceptions.NoScriptError),
        ("OOM command not allowed", exceptions.OutOfMemoryError),
        ("READONLY You can't write against a read only replica.", exceptions.ReadOnlyError),
        ("WRONGTYPE Operation against a key", exceptions.ResponseError),
    ]
    for text, kind in cases:
        with in_case(text, kind):
            first, error, last = read([b"+OK\r\n-" + text.encode() + b"\r\n:1\r\n"], 3)
            assert (first, last) == (b"OK", 1)
            assert isinstance(error, kind)
            (inside,) = read([b"*2\r\n-" + text.encode() + b"\r\n:1\r\n"])
            assert isinstance(inside[0], kind)
            assert inside[1] == 1


def test_an_answer_that_was_not_asked_for_ends_the_connection() -> None:
    cases: list[tuple[bytes, type[Exception]]] = [
        (b"-LOADING Redis is loading the dataset in memory\r\n", exceptions.BusyLoadingError),
        (b"+OK\r\n+OK\r\n", exceptions.ConnectionError),
        (b"$1\r\nx\r\n$1\r\ny", exceptions.ConnectionError),
        (b">2\r\n+invalidate\r\n_\r\n", exceptions.InvalidResponse),
        (b"HTTP/1.1 400 Bad Request\r\n", exceptions.InvalidResponse),
    ]
    for raw, kind in cases:
        with in_case(raw, kind):
            with pytest.raises(kind):
                read([raw])


@pytest.mark.parametrize("raw", [b"", b"$5\r\nval"])
def test_the_end_of_the_stream_is_an_error(raw: bytes) -> None:
    chunks = [raw] if raw else []
    for read_answers in both_forms(chunks):
        with pytest.raises(exceptions.ConnectionError):
            read_answers()


def test_an_invalid_number_ends_the_connection() -> None:
    for raw in (b"$x\r\n", b"$-1\r\n", b":\r\n", b"*x\r\n"):
        with in_case(raw):
            for read_answers in both_forms([raw]):
                with pytest.raises(exceptions.InvalidResponse):
                    read_answers()


def test_both_forms_read_the_same() -> None:
    raw, expected = ANSWERS["values"]
    for read_answers in both_forms([raw[:7], raw[7:]]):
        assert read_answers() == [expected]
