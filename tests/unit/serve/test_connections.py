"""The limits of the service's HTTP connections, with clients that do not read, send more than one request, or wait."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.serve import server as module
from ops.serve.server import _configuration, _Server, _ServerState, bind
from tests.promises import promise

# Neither the service's send buffer nor a client's receive buffer is that large.
LARGE = b"x" * 2**24
NEVER = 3600.0
GIVE_UP_SECONDS = 60.0


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Turn off each limit in time, and return a function that sets limits."""
    names = ("REQUEST_SECONDS", "ANSWER_SECONDS", "STOPPING_SECONDS", "GRACEFUL_SECONDS")

    def change(**values: float) -> None:
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)

    change(**dict.fromkeys(names, NEVER))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield change
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Running:
    """A running server. /held answers after `release`. `requests` counts the requests that reached the application."""

    def __init__(self) -> None:
        self.requests = 0
        self.release = asyncio.Event()
        paths = {"/small": self._small, "/large": self._large, "/held": self._held}
        app = Starlette(
            routes=[Route(path, answer, methods=["GET", "POST"]) for path, answer in paths.items()]
        )
        self.listener = bind("127.0.0.1", 0)
        self.address = self.listener.getsockname()
        self.server = _Server(_configuration(app))

    @property
    def state(self) -> _ServerState:
        return self.server.server_state

    async def _small(self, _: Request) -> Response:
        self.requests += 1
        return Response(b"small")

    async def _large(self, _: Request) -> Response:
        self.requests += 1
        return Response(LARGE)

    async def _held(self, _: Request) -> Response:
        self.requests += 1
        await self.release.wait()
        return Response(LARGE)

    def stop(self) -> None:
        self.server._stop(signal.SIGTERM)


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    """Run a server. At the end of the block, stop it, and wait until it has stopped."""
    it = Running()
    task = asyncio.create_task(it.server.serve(sockets=[it.listener]))
    await until(lambda: it.server.started)
    yield it
    it.stop()
    async with asyncio.timeout(GIVE_UP_SECONDS):
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def client(it: Running, sent: bytes = b"") -> AsyncIterator[socket.socket]:
    """Connect, and send some bytes. Nothing is read unless the test does so."""
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, it.address)
        await loop.sock_sendall(connection, sent)
        yield connection


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


async def everything(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    received = bytearray()
    async with asyncio.timeout(GIVE_UP_SECONDS):
        with suppress(ConnectionResetError):
            while part := await asyncio.get_running_loop().sock_recv(connection, 2**16):
                received += part
    return bytes(received)


async def answer(it: Running, path: str) -> bytes:
    async with client(it, get(path)) as connection:
        return await everything(connection)


@promise("clients that do not read their answers cannot keep others from being answered")
def test_a_client_that_does_not_read_its_answer_is_disconnected(limits: Callable[..., None]) -> None:
    async def run() -> None:
        async with running() as it, client(it, get("/large")) as connection:
            await until(lambda: it.requests == 1)
            await until(lambda: not it.state.connections)
            assert len(await everything(connection)) < len(LARGE)

    limits(ANSWER_SECONDS=0.1)
    asyncio.run(run())


@promise("clients that do not read their answers cannot keep others from being answered", control=True)
def test_a_client_that_reads_late_gets_the_whole_answer() -> None:
    async def run() -> None:
        async with running() as it, client(it, get("/large")) as connection:
            # The answer is written, and does not fit into the buffers.
            await until(lambda: it.requests == 1 and len(it.state.waiting) == 1)
            assert (await everything(connection)).endswith(b"\r\n\r\n" + LARGE)
            await until(lambda: not it.state.connections)
            assert not it.state.waiting

    asyncio.run(run())


def test_the_time_for_the_request_does_not_limit_the_answer() -> None:
    async def run() -> None:
        async with running() as it, client(it) as connection:
            await until(lambda: bool(it.state.waiting))
            (protocol,) = it.state.waiting
            timer = protocol._timer
            assert timer is not None
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n")
            assert not timer.cancelled()
            await loop.sock_sendall(connection, b"\r\n")
            await until(timer.cancelled)
            # More of the body does not prolong the time for the answer.
            timer = protocol._timer
            assert timer is not None
            await loop.sock_sendall(connection, b"body")
            await until(lambda: bytes(protocol.cycle.body) == b"body")
            assert protocol._timer is timer
            assert not timer.cancelled()
            it.release.set()
            assert (await everything(connection)).endswith(LARGE)

    asyncio.run(run())


@promise("clients that do not read their answers cannot keep others from being answered")
def test_unread_answers_are_given_up_for_new_connections(limits: Callable[..., None]) -> None:
    async def run() -> None:
        async with running() as it, AsyncExitStack() as stack:
            for number in range(1, 21):
                await stack.enter_async_context(client(it, get("/large")))
                await until(lambda number=number: it.requests == number)  # type: ignore[misc]
            assert b"200 OK" in await answer(it, "/small")
            assert len(it.state.waiting) <= 4
            # The newest ones are still connected.
            await until(lambda: len(it.state.connections) == 3)

    limits(WAITING_LIMIT=4)
    asyncio.run(run())


def test_a_request_in_progress_is_not_given_up_for_new_connections(limits: Callable[..., None]) -> None:
    async def run() -> None:
        async with running() as it, AsyncExitStack() as stack:
            connection = await stack.enter_async_context(client(it, get("/held")))
            await until(lambda: it.requests == 1)
            for _ in range(10):
                await stack.enter_async_context(client(it))
            assert b"200 OK" in await answer(it, "/small")
            it.release.set()
            assert (await everything(connection)).endswith(LARGE)

    limits(WAITING_LIMIT=4)
    asyncio.run(run())


@promise("a flood of new connections does not displace a client whose request has arrived")
def test_a_request_that_has_arrived_is_answered_whatever_connects_after_it(
    limits: Callable[..., None],
) -> None:
    async def run() -> None:
        async with running() as it:
            # The event loop stands still while they connect, so the kernel must queue them all.
            it.listener.listen(100)
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(socket.create_connection(it.address, GIVE_UP_SECONDS))
                    for _ in range(100)
                ]
                clients[0].sendall(get("/small"))
                clients[0].setblocking(False)
                assert (await everything(clients[0])).endswith(b"small")
                await until(lambda: len(it.state.waiting) == len(it.state.connections) == 8)

    limits(WAITING_LIMIT=8)
    asyncio.run(run())


def test_of_pipelined_requests_only_the_first_is_answered() -> None:
    async def run() -> None:
        async with running() as it, client(it, get("/small") * 12) as connection:
            received = await everything(connection)
            assert received.count(b"HTTP/1.1 200 OK") == 1
            assert b"connection: close\r\n" in received.lower()
            assert received.endswith(b"\r\n\r\nsmall")
            assert it.requests == 1

    asyncio.run(run())


def test_a_websocket_is_answered_as_any_other_request() -> None:
    async def run() -> None:
        upgrade = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        )
        async with running() as it, client(it, get("/small", upgrade)) as connection:
            assert (await everything(connection)).endswith(b"\r\n\r\nsmall")
            assert it.requests == 1

    asyncio.run(run())


@promise("a client that does not read its answer does not delay a stop by more than a second")
def test_a_stop_does_not_wait_for_a_client_that_does_not_read(limits: Callable[..., None]) -> None:
    async def run() -> None:
        # One answer is written before the stop, and the other one after the stop has begun.
        async with running() as it, client(it, get("/large")), client(it, get("/held")):
            await until(lambda: it.requests == 2 and len(it.state.waiting) == 1)
            it.stop()
            await until(lambda: it.state.is_stopping)
            await until(lambda: len(it.state.connections) == 1)
            it.release.set()
            await until(lambda: not it.state.connections)

    limits(STOPPING_SECONDS=0.1)
    asyncio.run(run())


@promise("a client that does not read its answer does not delay a stop by more than a second", control=True)
def test_a_client_may_read_the_rest_of_its_answer_during_a_stop() -> None:
    async def run() -> None:
        async with running() as it, client(it, get("/large")) as connection:
            await until(lambda: it.requests == 1 and len(it.state.waiting) == 1)
            it.stop()
            await until(lambda: it.state.is_stopping)
            assert (await everything(connection)).endswith(LARGE)

    asyncio.run(run())


def test_a_connection_accepted_during_a_stop_is_closed() -> None:
    async def run() -> None:
        async with running() as it:
            it.state.is_stopping = True
            assert await answer(it, "/small") == b""

    asyncio.run(run())
