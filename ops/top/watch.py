"""Read a server at intervals in a thread, so that a frozen server delays neither the others nor the display."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ops.errors import OpsError
from ops.servers.errors import ServerUnreachable

_T_co = TypeVar("_T_co", covariant=True)
_T = TypeVar("_T")


class Source(Protocol[_T_co]):
    """A server. `read` raises OpsError if the server does not answer."""

    def read(self) -> _T_co: ...

    def close(self) -> None: ...


@dataclass
class Pace:
    """The seconds between two readings. May change at any time."""

    interval: float


@dataclass(frozen=True)
class Seen(Generic[_T]):
    """The last two readings of a server, or since when and why it does not answer.

    `since` is when the first read began that has not succeeded yet (time.monotonic()). `servers` is the state of each
    of several servers if none could be used.
    """

    previous: _T | None = None
    last: _T | None = None
    reason: str | None = None
    since: float | None = None
    servers: Mapping[str, str] = field(default_factory=dict)


class Watch(Generic[_T]):
    """A server that is read at intervals. `on_read` is called in the thread after each reading."""

    def __init__(self, source: Source[_T], pace: Pace, on_read: Callable[[], None] = lambda: None) -> None:
        self._source = source
        self._pace = pace
        self._on_read = on_read
        self._ended = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self.seen: Seen[_T] = Seen(since=time.monotonic())

    def start(self, rounds: int | None = None) -> None:
        """Read until `stop`, or `rounds` times."""
        # A frozen server must not delay the end of the program.
        self._thread = threading.Thread(target=self._run, args=[rounds], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the read that is under way."""
        self._ended.set()
        self._hurry.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended. Each read takes a bounded time, so this does too."""
        if self._thread is not None:
            self._thread.join(timeout)

    def read_now(self) -> None:
        """Do not wait for the next reading."""
        self._hurry.set()

    def _run(self, rounds: int | None) -> None:
        try:
            done = 0
            while not self._ended.is_set():
                began = time.monotonic()
                self._read(began)
                self._on_read()
                done += 1
                if done == rounds:
                    return
                self._hurry.wait(max(began + self._pace.interval - time.monotonic(), 0))
                self._hurry.clear()
        finally:
            self._source.close()

    def _read(self, began: float) -> None:
        before = self.seen
        # So that the display can show that a read takes long.
        self.seen = Seen(before.previous, before.last, before.reason, before.since or began, before.servers)
        try:
            reading = self._source.read()
        except OpsError as error:
            servers = error.servers if isinstance(error, ServerUnreachable) else {}
            self.seen = Seen(reason=str(error), since=before.since or began, servers=servers)
            return
        self.seen = Seen(before.last, reading)
