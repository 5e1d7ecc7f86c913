"""An attempt to connect that ran out of time holds nothing: no session of the server's is nobody's."""

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
    """It accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        yield listener


@pytest.fixture
def without_collection() -> Iterator[None]:
    """As between two collections of the oldest garbage, which may be far apart."""
    gc.disable()
    yield
    gc.enable()


def is_left(connect: Callable[[str], None], server: socket.socket) -> bool:
    """Whether the server's end is still open when the attempt is over."""
    port = server.getsockname()[1]
    with pytest.raises(psycopg.OperationalError, match="timeout expired") as refused:
        # Two seconds are the least that is taken.
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
            # Kept until here, as a log keeps it.
            del refused
    return False


@pytest.mark.usefixtures("without_collection")
@pytest.mark.parametrize("connect", [ours, ours_async])
def test_it_is_closed_at_once(silent_server: socket.socket, connect: Callable[[str], None]) -> None:
    assert not is_left(connect, silent_server)


@pytest.mark.usefixtures("without_collection")
def test_the_plain_driver_leaves_it_open(silent_server: socket.socket) -> None:
    """The negative control."""
    assert is_left(plain, silent_server)
