"""Run a groundwork command and kill it after its Nth exchange with Redis or Postgres."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import psycopg
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.connection import AbstractConnection

from db._sync.connection import BoundedConnection
from tests import forked_command


class Countdown:
    """Counts calls over all connections, and kills the process at the last one."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def watch(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def sent(*arguments: Any, **options: Any) -> Any:
            answer = send(*arguments, **options)
            self._count()
            return answer

        return sent

    def watch_async(self, send: Callable[..., Any]) -> Callable[..., Any]:
        async def sent(*arguments: Any, **options: Any) -> Any:
            answer = await send(*arguments, **options)
            self._count()
            return answer

        return sent

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def run_until(
    server: str, kill_after: int, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command, kill it after so many exchanges with "redis" or "postgres" (0: never), and return the result."""
    return forked_command.run(
        *arguments, environment=environment, prepare=_watch, prepare_with=(server, kill_after)
    )


def _watch(server: str, calls: int) -> None:
    countdown = Countdown(calls)
    if server == "postgres":
        # Each of these waits once for the server: connecting, a statement, a block of a COPY, BEGIN and COMMIT.
        for connection in (psycopg.Connection, BoundedConnection):
            connection.wait = countdown.watch(connection.wait)  # type: ignore[method-assign]
        return
    AbstractConnection.send_packed_command = countdown.watch(  # type: ignore[method-assign]
        AbstractConnection.send_packed_command
    )
    AsyncConnection.send_packed_command = countdown.watch_async(  # type: ignore[method-assign]
        AsyncConnection.send_packed_command
    )
