"""The server process: binds, serves until SIGTERM or SIGINT, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from ops.errors import OpsError

_logger = logging.getLogger("groundwork.serve")
# Docker waits 10 s before it kills: 5 s for requests under way, and some for the connections.
GRACEFUL_SECONDS = 5


class _Server(uvicorn.Server):
    """uvicorn's server, ending with exit code 0: its own handlers raise the signal again when done."""

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

    def _stop(self, number: signal.Signals) -> None:
        _logger.info("stopping", extra={"signal": number.name})
        # Asked a second time, it no longer waits for requests under way.
        self.force_exit = self.should_exit
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; OpsError where the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OpsError(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port"
        ) from error


def run(app: Starlette, listener: socket.socket) -> None:
    """Serve until told to stop; requests under way are finished first."""
    host, port = listener.getsockname()[:2]
    _logger.info("listening", extra={"host": host, "port": port})
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
    )
    asyncio.run(_Server(config).serve(sockets=[listener]))
    _logger.info("stopped")
