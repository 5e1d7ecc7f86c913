"""A bound on how long a block may take: tasks are cancelled, threads have their sockets' own timeouts."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext

_NO_LIMIT: AbstractContextManager[None] = nullcontext()


def async_time_limit(seconds: float) -> asyncio.Timeout:
    """TimeoutError when the block is still running after so many seconds."""
    return asyncio.timeout(seconds)


def time_limit(seconds: float) -> AbstractContextManager[None]:
    """No thread can be stopped from outside: the pool's wait, connect and read are bounded one by one."""
    return _NO_LIMIT


def async_socket_seconds(seconds: float) -> float | None:
    """No timeout of the socket's own: redis-py would start a task for every command, beside the block's limit."""
    return None


def socket_seconds(seconds: float) -> float:
    """What bounds each read and write of a thread."""
    return seconds
