"""A bound on how long a block may take: tasks are cancelled, threads have their sockets' own timeouts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def async_time_limit(seconds: float) -> asyncio.Timeout:
    """TimeoutError when the block is still running after so many seconds."""
    return asyncio.timeout(seconds)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """No thread can be stopped from outside: the pool's wait, connect and read are bounded one by one."""
    yield
