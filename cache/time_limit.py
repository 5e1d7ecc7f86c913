"""A bound on how long a block may take: tasks are cancelled, threads' sockets are given what is left of it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractContextManager
from time import monotonic
from types import TracebackType


class _Current(threading.local):
    """When this thread's block has to be over; None outside of one."""

    ends_at: float | None = None


_current = _Current()


def async_time_limit(seconds: float) -> asyncio.Timeout:
    """TimeoutError when the block is still running after so many seconds."""
    return asyncio.timeout(seconds)


class _TimeLimit:
    __slots__ = ("_ends_at",)

    def __init__(self, seconds: float) -> None:
        self._ends_at = monotonic() + seconds

    def __enter__(self) -> None:
        _current.ends_at = self._ends_at

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.ends_at = None


def time_limit(seconds: float) -> AbstractContextManager[None]:
    """No thread can be stopped from outside: its sockets ask `seconds_left` before each step (cache.tls)."""
    return _TimeLimit(seconds)


def seconds_left(usual: float) -> float:
    """What is left of this thread's block for a step that usually gets `usual` seconds; never nothing at all."""
    ends_at = _current.ends_at
    return usual if ends_at is None else min(usual, max(ends_at - monotonic(), 0.001))


def async_socket_seconds(seconds: float) -> float | None:
    """No timeout of the socket's own: redis-py would start a task for every command, beside the block's limit."""
    return None


def socket_seconds(seconds: float) -> float:
    """What bounds each read and write of a thread."""
    return seconds
