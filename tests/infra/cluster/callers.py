"""Callers of the data access that write under keys until each write has succeeded, and then read it from a replica."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from cache.url_source import UrlSource
from db import DataAccess
from db.errors import (
    ConnectionLost,
    DeadlineExceeded,
    InvalidSetting,
    LockTimeout,
    OutcomeUnknown,
    Unavailable,
)
from db.models import NewUser
from tests.integration.data_access import cache_settings, database_settings
from tests.scale import IS_FULL

_T = TypeVar("_T")
_CALLERS = 2
# Without SCALE=full it is longer, because other tests share the cores.
_PAUSE_SECONDS = 0.01 if IS_FULL else 0.1
# What the documentation says may be tried again.
_RETRIED = (Unavailable, ConnectionLost, DeadlineExceeded, LockTimeout, OutcomeUnknown)


@dataclass
class Callers:
    """`written` are the users whose writes have succeeded, `missed` those that the read after the write did not see."""

    data: DataAccess
    written: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    retries: int = 0
    is_over: bool = False

    def work(self, first: int) -> None:
        github_id = first
        while not self.is_over:
            new = NewUser(github_id=github_id, username=f"user {github_id}")
            self._until_done(partial(self.data.users.add, new, idempotency_key=f"add {github_id}"))
            self.written.append(github_id)
            if self._until_done(partial(self._read, github_id)) is None:
                self.missed.append(github_id)
            github_id += _CALLERS
            time.sleep(_PAUSE_SECONDS)

    def _read(self, github_id: int) -> object:
        with self.data.reading():
            return self.data.users.find_by_github_id(github_id)

    def _until_done(self, call: Callable[[], _T]) -> _T:
        while True:
            try:
                return call()
            except _RETRIED:
                self.retries += 1
                time.sleep(_PAUSE_SECONDS)


@contextmanager
def calling(url: str, read_url: str, first: int) -> Iterator[Callers]:
    """Write users from `first` on until the end of the block. Any error that may not be tried again is raised there."""
    settings = database_settings(url, read_url=UrlSource("DATABASE_READ_URL", InvalidSetting, read_url))
    nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
    with DataAccess(settings, nowhere) as data, ThreadPoolExecutor(_CALLERS) as threads:
        callers = Callers(data)
        working = [threads.submit(callers.work, first + n) for n in range(_CALLERS)]
        try:
            yield callers
        finally:
            callers.is_over = True
        for each in working:
            each.result()
