"""A TLS connection to Redis whose opening is cancelled or fails leaves no socket open."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from redis import exceptions

from cache.tls import (
    AsyncPlainConnection,
    AsyncTlsConnection,
    PlainConnection,
    TlsConnection,
    TlsContext,
    connection_options,
)
from infra.certificates import make_authority, make_server_certificate
from tests.containers import wait_until


def _serve_silently(listener: socket.socket, context: ssl.SSLContext, is_over: Event) -> None:
    """Accept one TLS connection and read nothing from it, so that nobody answers its close_notify."""
    client, _ = listener.accept()
    with context.wrap_socket(client, server_side=True):
        is_over.wait(60)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[AsyncTlsConnection]:
    """An unopened connection to a server that completes the handshake and is silent afterwards."""
    authority = make_authority("groundwork tests")
    pair = make_server_certificate(authority, ["127.0.0.1"])
    (tmp_path / "ca.crt").write_text(authority.certificate)
    (tmp_path / "server.pem").write_text(pair.certificate + pair.private_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    is_over = Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as executor:
        executor.submit(_serve_silently, listener, context, is_over)
        url = f"rediss://127.0.0.1:{listener.getsockname()[1]}?ssl_ca_certs={tmp_path / 'ca.crt'}"
        options = connection_options(url, AsyncTlsConnection, AsyncPlainConnection)
        made = options.pop("connection_class")(**options, socket_connect_timeout=30.0)
        yield made
        is_over.set()


async def _cancel_as_the_handshake_ends(connection: AsyncTlsConnection) -> bool:
    class Cancelling(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            task.cancel()

    context = connection._tls.get()
    context.sslobject_class = Cancelling
    task = asyncio.ensure_future(connection._connect())
    await asyncio.wait([task])
    # The class refers to the task, whose error refers to the transport.
    context.sslobject_class = ssl.SSLObject
    return task.cancelled()


async def _disconnect_after_connecting(connection: AsyncTlsConnection) -> bool:
    await connection._connect()
    was_connected: bool = connection.is_connected
    await connection.disconnect()
    return was_connected


@pytest.mark.parametrize("use", [_cancel_as_the_handshake_ends, _disconnect_after_connecting])
def test_a_connection_to_a_silent_server_is_closed_when_its_event_loop_ends(
    connection: AsyncTlsConnection, use: object
) -> None:
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always", ResourceWarning)
        assert asyncio.run(use(connection))  # type: ignore[operator]
        gc.collect()

    assert [str(leak.message) for leak in leaks] == []


def test_a_disconnect_needs_no_time_that_a_busy_event_loop_may_not_have(
    connection: AsyncTlsConnection,
) -> None:
    async def disconnect_without_time() -> bool:
        await connection._connect()
        connection.socket_connect_timeout = 0.0
        await connection.disconnect(nowait=False)
        return bool(connection.is_connected)

    assert not asyncio.run(disconnect_without_time())


@pytest.fixture
def reset() -> Iterator[socket.socket]:
    """A connected socket whose connection the server has reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        # Closing with a linger time of 0 sends RST.
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
    wait_until(lambda: not _is_connected(client))
    with client:
        yield client


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _refused() -> AbstractContextManager[object]:
    """Expect an error, but not of Python before 3.11.5, as in Debian 12: it returns a socket without a connection.

    A new object for each use, because it keeps the error, which keeps the socket.
    """
    return pytest.raises(ConnectionResetError) if sys.version_info >= (3, 11, 5) else nullcontext()


def test_a_connection_that_is_reset_before_the_handshake_is_closed(reset: socket.socket) -> None:
    options = connection_options("rediss://localhost", TlsConnection, PlainConnection)
    connection = options.pop("connection_class")(**options)
    connection._name = "localhost"
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always", ResourceWarning)
        with _refused():
            connection._wrap_socket_with_ssl(reset).close()
        gc.collect()
    assert [str(leak.message) for leak in leaks] == []


@pytest.mark.skipif(
    not (3, 11, 5) <= sys.version_info < (3, 13), reason="only Python 3.11.5 to 3.12 leaves it open"
)
def test_python_leaves_a_connection_open_that_is_reset_before_the_handshake(reset: socket.socket) -> None:
    """The control of the test above."""
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(ConnectionResetError):
            ssl.create_default_context().wrap_socket(reset, server_hostname="localhost")
        gc.collect()
    assert len(leaks) == 1


def test_a_context_of_the_former_ca_file_is_not_taken_for_one_of_the_new_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"

    def write(name: str, changed_at: int) -> None:
        file.write_text(make_authority(name).certificate)
        os.utime(file, (changed_at, changed_at))

    def trusted(context: ssl.SSLContext) -> str:
        (certificate,) = context.get_ca_certs()
        assert isinstance(certificate, dict)
        return str(certificate["subject"])

    class Interrupted(TlsContext):
        """Replaces the file before the first context is stored, and lets another thread get one before each store."""

        is_slow = False
        seen: tuple[str, ...] = ()

        def __setattr__(self, name: str, value: Any) -> None:
            if self.is_slow and name != "is_slow":
                if not self.seen:
                    write("new", 2)
                object.__setattr__(self, "is_slow", False)
                object.__setattr__(self, "seen", (*self.seen, trusted(self.get())))
                object.__setattr__(self, "is_slow", True)
            super().__setattr__(name, value)

    write("old", 1)
    tls = Interrupted(str(file), check_hostname=True)
    tls.is_slow = True
    tls.get()
    tls.is_slow = False
    assert all("new" in each for each in (*tls.seen, trusted(tls.get())))


@pytest.mark.parametrize("content", [None, b"", b"not PEM"], ids=["missing", "empty", "not PEM"])
@pytest.mark.parametrize("kind", [TlsConnection, AsyncTlsConnection])
def test_a_ca_file_that_cannot_be_read_is_named(tmp_path: Path, kind: Any, content: bytes | None) -> None:
    """redis-py itself reports only "Error 2 connecting to localhost:6379"."""
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_bytes(content)

    async def connect() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            connection = kind(host=host, port=port, tls=TlsContext(str(file), False), retry=None)
            if kind is TlsConnection:
                connection.connect()
            else:
                await connection.connect()

    with pytest.raises(exceptions.ConnectionError, match=f"cannot read the certificate authority {file}: "):
        asyncio.run(connect())
