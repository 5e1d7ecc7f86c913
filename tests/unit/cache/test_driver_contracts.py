"""The internals of redis-py on which the cache depends. An upgrade that changes them fails here."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import redis
from redis import connection
from redis._parsers import resp3

from cache import tls


def test_the_parser_passes_invalidations_to_a_handler() -> None:
    handed: list[object] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = tls.PlainConnection(protocol=3)
        made._sock, made._parser = ours, resp3._RESP3Parser(65536)
        made._parser.on_connect(made)
        made._parser.set_invalidation_push_handler(handed.append)
        theirs.send(b">2\r\n+invalidate\r\n*1\r\n+gw:main:v1:user:{7}\r\n>2\r\n+invalidate\r\n_\r\n+PONG\r\n")
        assert made.read_response() == b"PONG"
        made._sock = None
    assert handed == [[b"invalidate", [b"gw:main:v1:user:{7}"]], [b"invalidate", None]]


def test_a_connection_keeps_its_parser_after_tracking_sets_the_handler() -> None:
    made = tls.PlainConnection(protocol=3)
    _record(made)
    made.on_connect()
    # redis-py 6 creates the parser for RESP3 when it connects.
    assert hasattr(made._parser, "set_invalidation_push_handler")


def _record(made: Any) -> list[str]:
    """Answer each command of a connection with OK, and return the list to which their names are added."""
    sent: list[str] = []
    made._parser.on_connect = lambda *_: None
    made.send_command = lambda *words, **_: sent.append(" ".join(map(str, words[:2])))
    made.read_response = lambda *_, **__: {b"proto": 3} if sent[-1].startswith("HELLO") else b"OK"
    return sent


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_connection_sends_no_commands_of_its_own(protocol: int) -> None:
    def sent(kind: type) -> list[str]:
        made = redis.ConnectionPool(connection_class=kind, protocol=protocol).make_connection()
        commands = _record(made)
        made.on_connect()
        return [each for each in commands if each.startswith("CLIENT")]

    assert sent(tls.PlainConnection) == []
    # The control: redis-py's own connection sends them.
    assert sent(connection.Connection)


class _RecordingSocket:
    """Answers every request with OK, and records which of its methods are called."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def recv(self, size: int) -> bytes:
        self.used.append("recv")
        return b"+OK\r\n"

    def recv_into(self, buffer: bytearray) -> int:
        buffer[:5] = self.recv(len(buffer))
        self.used[-1] = "recv_into"
        return 5

    def sendall(self, data: bytes) -> None:
        self.used.append("sendall")

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...

    def settimeout(self, seconds: float) -> None:
        self.used.append("settimeout")


def test_requests_and_answers_use_the_socket_methods_with_time_limits() -> None:
    made = tls.PlainConnection(socket_timeout=1.0)
    made._sock = sock = _RecordingSocket()
    made._parser.on_connect(made)
    made.send_packed_command([b"*1\r\n$4\r\nPING\r\n"], check_health=False)
    assert made.read_response() == b"OK"
    # The last one is used if hiredis is installed.
    assert sock.used in (["sendall", "recv"], ["sendall", "recv_into"])
    assert {"sendall", "recv", "recv_into"} <= vars(tls._BoundedSocket).keys()


def test_a_socket_with_a_time_limit_works_with_the_hiredis_parser() -> None:
    """The parser peeks at a readable plain socket, to detect the end of the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bounded = tls._BoundedSocket(ours, 1.0)
        theirs.send(b"xy")
        assert bounded.recv(1, socket.MSG_PEEK) == b"x"
        buffer = bytearray(8)
        assert bounded.recv_into(buffer) == 2
        assert buffer[:2] == b"xy"


def test_pending_data_is_detected_without_reading() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = tls.PlainConnection(socket_timeout=1.0)
        assert made._sock is None
        made._sock = tls._BoundedSocket(ours, 1.0)
        made._parser.on_connect(made)
        assert not made.can_read()
        theirs.send(b"+OK\r\n+left\r\n")
        assert made.can_read()
        assert made.read_response() == b"OK"
        # The rest of an unsolicited answer is in the parser's buffer, and no longer in the socket's.
        assert made.can_read()
        assert made.read_response() == b"left"
        assert not made.can_read()
        theirs.close()
        with pytest.raises(redis.ConnectionError):
            made.can_read()


@pytest.mark.parametrize("kind", [tls.PlainConnection, tls.TlsConnection])
def test_a_connection_connects_with_the_overridden_method(kind: type) -> None:
    assert callable(connection.Connection._connect)
    assert kind._connect is tls._BoundedSteps._connect  # type: ignore[attr-defined]
    options = {"tls": None} if kind is tls.TlsConnection else {}
    made = kind(socket_timeout=1.0, socket_connect_timeout=2.0, **options)
    assert (made.socket_timeout, made.socket_connect_timeout, made._sock) == (1.0, 2.0, None)


class _RecordingWriter:
    """A stream's writer, and its transport, which record their calls."""

    def __init__(self) -> None:
        self.transport = self
        self.asked: list[str] = []

    def abort(self) -> None:
        self.asked.append("abort")

    def close(self) -> None:
        self.asked.append("close")

    async def wait_closed(self) -> None:
        self.asked.append("wait_closed")


@pytest.mark.parametrize("kind", [tls.AsyncPlainConnection, tls.AsyncTlsConnection])
def test_an_async_connection_is_aborted_by_its_transport_without_any_wait(kind: type) -> None:
    made = kind(**({"tls": None} if kind is tls.AsyncTlsConnection else {}))
    assert made._writer is None
    made._reader, made._writer = object(), (writer := _RecordingWriter())
    asyncio.run(made.disconnect())
    assert writer.asked == ["abort", "close"]
    assert made._writer is None
