"""A connection attempt that times out leaves no session on the server."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Iterator

import psycopg
import pytest

from db._async.connection import AsyncBoundedConnection
from db._sync.connection import BoundedConnection

SECONDS = 5.0


def ours(conninfo: str) -> None:
    BoundedConnection.connect(conninfo)


def ours_async(conninfo: str) -> None:
    asyncio.run(AsyncBoundedConnection.connect(conninfo))


def plain(conninfo: str) -> None:
    psycopg.connect(conninfo)


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        yield listener


@pytest.fixture
def without_collection() -> Iterator[None]:
    """Turn off garbage collection, whose full runs may be far apart."""
    gc.disable()
    yield
    gc.enable()


def is_left(connect: Callable[[str], None], server: socket.socket) -> bool:
    """Return whether the server's end of the connection is still open after the attempt."""
    port = server.getsockname()[1]
    with pytest.raises(psycopg.OperationalError, match="timeout expired") as refused:
        # Two seconds is the shortest timeout that is accepted.
        connect(
            f"postgresql://app@127.0.0.1:{port}/groundwork?connect_timeout=2&sslmode=disable&gssencmode=disable"
        )
    session, _ = server.accept()
    with session:
        session.settimeout(0.5)
        try:
            while session.recv(4096):
                pass
        except TimeoutError:
            return True
        finally:
            # Referenced until here, as a log would do.
            del refused
    return False


@pytest.mark.usefixtures("without_collection")
@pytest.mark.parametrize("connect", [ours, ours_async])
def test_the_connection_is_closed_immediately(
    silent_server: socket.socket, connect: Callable[[str], None]
) -> None:
    assert not is_left(connect, silent_server)


@pytest.mark.usefixtures("without_collection")
def test_the_plain_driver_leaves_the_connection_open(silent_server: socket.socket) -> None:
    """Negative control."""
    assert is_left(plain, silent_server)
