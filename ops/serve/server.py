"""The server process: bind, serve until SIGTERM or SIGINT, and shut down cleanly."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ops.errors import OpsError

_logger = logging.getLogger("groundwork.serve")
# Docker kills the container after 10 s. Requests in progress get 5 s, the rest is for closing connections.
GRACEFUL_SECONDS = 5


# A request of ours is one small packet. Prometheus and health checks send it at once.
REQUEST_SECONDS = 10
# From the request until the client has read the answer. Prometheus itself gives up a scrape after 10 s.
ANSWER_SECONDS = 10
# The time that a client gets for the rest of its answer once the service is stopping.
STOPPING_SECONDS = 1
# Connections that wait for their client, which has to send its request or to read its answer. One more closes the one
# that has waited longest.
WAITING_LIMIT = 256


class _ServerState(ServerState):
    """What all connections of a server know."""

    def __init__(self) -> None:
        super().__init__()
        # A dict because it keeps the order.
        self.waiting: dict[_BoundedProtocol, None] = {}
        self.is_stopping = False


class _BoundedProtocol(H11Protocol):
    """An HTTP connection for one request. A timer runs as long as the connection is open.

    uvicorn would wait forever for a request, and for a client that does not read. Each answer contains
    `Connection: close`, so that a client cannot send further requests while it does not read the answers.
    """

    server_state: _ServerState
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer(REQUEST_SECONDS)
        self._wait()
        if self.server_state.is_stopping:
            # It was accepted just before the listening socket was closed.
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._cancel_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        # Only once: the rest of a request's body does not prolong the time for the answer.
        if self in self.server_state.waiting and self._is_answering():
            self._stop_waiting()
            self._set_timer(ANSWER_SECONDS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The answer is written. What the client does not read stays in the buffer, and the connection stays open.
        if self.transport.get_write_buffer_size():
            self._wait()
            if self.server_state.is_stopping:
                self._set_timer(STOPPING_SECONDS)

    def shutdown(self) -> None:
        super().shutdown()
        if not self._is_answering():
            self._set_timer(STOPPING_SECONDS)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        waiting = self.server_state.waiting
        if len(waiting) >= WAITING_LIMIT:
            next(iter(waiting))._give_up()
        waiting[self] = None

    def _stop_waiting(self) -> None:
        self.server_state.waiting.pop(self, None)

    def _set_timer(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self) -> None:
        self._stop_waiting()
        self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn's server, but it wakes up only once a second, and exits with 0 instead of raising the signal again."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state: _ServerState = _ServerState()
        self._stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Update the Date header every second until asked to stop. uvicorn's own loop polls every 0.1 s."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state.is_stopping = True
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
                # A second signal must not kill the process, which has nothing left to do.
                signal.signal(number, signal.SIG_IGN)

    def _stop(self, number: signal.Signals) -> None:
        _logger.info("stopping", extra={"signal": number.name})
        # A second signal cancels requests in progress.
        self.force_exit = self.should_exit
        self.should_exit = True
        self._stopping.set()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raise OpsError if the address is in use, not local, or unknown."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if not host.isascii():
            # create_server would leave its socket open.
            host.encode("idna")
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        option = _wrong_option(error)
        advice = f"; choose another with {option}" if option else ""
        raise OpsError(f"cannot listen on {host} port {port}: {reason}{advice}") from error


def _wrong_option(error: OSError | OverflowError | UnicodeError) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, OverflowError) or number in (errno.EADDRINUSE, errno.EACCES):
        return "--port"
    # create_server replaces a gaierror by an OSError with its number, which is negative.
    is_host = isinstance(error, UnicodeError) or number == errno.EADDRNOTAVAIL or (number or 0) < 0
    return "--host" if is_host else None


def run(app: Starlette, listener: socket.socket) -> None:
    """Serve until asked to stop. Requests in progress are finished first."""
    host, port = listener.getsockname()[:2]
    _logger.info("listening", extra={"host": host, "port": port})
    asyncio.run(_Server(_configuration(app)).serve(sockets=[listener]))
    _logger.info("stopped")


def _configuration(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        lifespan="on",
        http=_BoundedProtocol,
        # uvicorn would hand such a connection over to a protocol without limits.
        ws="none",
        headers=[("Connection", "close")],
        # As many again may be answered. Further ones get 503.
        limit_concurrency=2 * WAITING_LIMIT,
        # asyncio accepts that many connections before it reads from those it has. With uvicorn's 2048, newcomers would
        # displace a client whose request has already arrived. It is the length of the kernel's queue, too: behind 2048
        # connections of a flood, a health check waits longer than a client that finds the queue full and tries again.
        backlog=WAITING_LIMIT // 4,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
    )
