"""Run a groundwork command and kill it after its Nth exchange with Redis or Postgres.

python -m tests.faults.dying_operator redis|postgres N ARGUMENT...   (REDIS_URL, DATABASE_URL, ...)
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import psycopg
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.connection import AbstractConnection

from ops.cli import main


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


def watch(server: str, countdown: Countdown) -> None:
    if server == "postgres":
        # Each of these waits once for the server: connecting, a statement, a block of a COPY, BEGIN and COMMIT.
        psycopg.Connection.wait = countdown.watch(psycopg.Connection.wait)  # type: ignore[method-assign]
        return
    AbstractConnection.send_packed_command = countdown.watch(  # type: ignore[method-assign]
        AbstractConnection.send_packed_command
    )
    AsyncConnection.send_packed_command = countdown.watch_async(  # type: ignore[method-assign]
        AsyncConnection.send_packed_command
    )


if __name__ == "__main__":
    watch(sys.argv[1], Countdown(int(sys.argv[2])))
    main(sys.argv[3:])
