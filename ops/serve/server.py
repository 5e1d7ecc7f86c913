"""The server process: bind, serve until SIGTERM or SIGINT, and shut down cleanly."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ops.errors import OpsError

_logger = logging.getLogger("groundwork.serve")
# Docker kills the container after 10 s. Requests in progress get 5 s, the rest is for closing connections.
GRACEFUL_SECONDS = 5


# A request of ours is one small packet. Prometheus and health checks send it at once.
REQUEST_SECONDS = 10
# Connections without a request in progress. One more closes the one that has waited longest.
WAITING_LIMIT = 256


class _BoundedProtocol(H11Protocol):
    """An HTTP connection that must send each request within REQUEST_SECONDS. uvicorn would wait forever."""

    _waiting: ClassVar[dict[_BoundedProtocol, asyncio.TimerHandle]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self._is_answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self._is_answering():
            self._wait()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._stop_waiting()
        if len(self._waiting) >= WAITING_LIMIT:
            next(iter(self._waiting))._give_up()
        self._waiting[self] = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if (timer := self._waiting.pop(self, None)) is not None:
            timer.cancel()

    def _give_up(self) -> None:
        self._stop_waiting()
        self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn's server, but it wakes up only once a second, and exits with 0 instead of raising the signal again."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Update the Date header every second until asked to stop. uvicorn's own loop polls every 0.1 s."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

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
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="on",
        http=_BoundedProtocol,
        # As many again may be answered. Further ones get 503.
        limit_concurrency=2 * WAITING_LIMIT,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
    )
    asyncio.run(_Server(config).serve(sockets=[listener]))
    _logger.info("stopped")
