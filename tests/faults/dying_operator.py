"""`groundwork cache ...` that is killed as soon as it has sent its Nth command to Redis.

python -m tests.faults.dying_operator N ARGUMENT...   (REDIS_URL, DATABASE_URL, GROUNDWORK_CACHE_NAMESPACE)
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.connection import AbstractConnection

from ops.cli import main


class Countdown:
    """Counts what is sent over the connections of both kinds."""

    def __init__(self, commands: int) -> None:
        self._left = commands

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


if __name__ == "__main__":
    countdown = Countdown(int(sys.argv[1]))
    AbstractConnection.send_packed_command = countdown.watch(  # type: ignore[method-assign]
        AbstractConnection.send_packed_command
    )
    AsyncConnection.send_packed_command = countdown.watch_async(  # type: ignore[method-assign]
        AsyncConnection.send_packed_command
    )
    main(sys.argv[2:])
