"""A failover under load: one writer and two readers through the data access, and observers of every server."""

from __future__ import annotations

import threading
import time
from bisect import bisect
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from operator import itemgetter
from typing import Any

import redis
from msgspec.structs import replace

from db.models import NewUser
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.redis_group import Group
from tests.scale import IS_FULL

# A failover takes 6 s, and a call of a busy machine may take long.
_WAIT_SECONDS = 180.0
_CALL_SECONDS = 0.5
# Pauses between two calls. Without SCALE=full they are longer, because other tests share the cores.
_WRITER_SECONDS, _READER_SECONDS = (0.01, 0.005) if IS_FULL else (0.05, 0.04)
_OBSERVER_SECONDS = 0.05
# Writes that must reach Redis before and after a fault.
_CALLS = 20
# Drills of one test share a database.
_GITHUB_IDS = count(1)
# How far the readers may be behind: one has a near cache, the other has not.
_LAGS = (0.25, 0.0)


@dataclass
class Tenure:
    """The time in which one server accepted writes as a primary: the end of the first and the start of the last try."""

    first_end: float
    last_start: float


@dataclass
class Observer:
    """Tries to write to one server all the time."""

    group: Group
    position: int
    # Replication id -> when a primary of this id accepted writes. It changes with each promotion.
    tenures: dict[str, Tenure] = field(default_factory=dict)

    def run(self, stopped: threading.Event) -> None:
        while not stopped.wait(_OBSERVER_SECONDS):
            with suppress(redis.RedisError), self.group.administrator(self.position) as client:
                while not stopped.wait(_OBSERVER_SECONDS):
                    # A refused write keeps the connection. A new one takes much more CPU time than the write.
                    with suppress(redis.ResponseError):
                        self._try(client)

    def _try(self, client: Any) -> None:
        start = time.monotonic()
        client.unlink("gwl:test:fence")
        end = time.monotonic()
        replication_id = client.info("replication")["master_replid"]
        self.tenures.setdefault(replication_id, Tenure(end, start)).last_start = start


@dataclass
class Outcome:
    """What a drill saw. `stale` counts reads older than a write whose invalidation had reached Redis.

    `reads` counts the reads of each reader.
    """

    reads: list[int] = field(default_factory=lambda: [0] * len(_LAGS))
    stale: int = 0
    errors: list[str] = field(default_factory=list)
    overlaps: int = 0


class Drill:
    """Reads and writes one user until `finish`. `group` is in its usual state when the drill begins."""

    def __init__(self, group: Group, database: Database, namespace: str) -> None:
        self.group = group
        self.primary = group.primary()
        self.outcome = Outcome()
        self._stopped = threading.Event()
        self._stack = ExitStack()
        old, *others = sorted(range(len(group.servers)), key=lambda n: n != self.primary)

        self._database, self._namespace = database, namespace
        # The readers prefer the old primary, and the writer the others: the worst order.
        self._writer_order = [*others, old]
        self.writer = self._open("sync", self._writer_order, 0)
        self.readers = [
            self._open(*each) for each in (("sync", [old, *others], 100), ("async", [old, *others], 0))
        ]
        self._user = self.writer.users.add(NewUser(github_id=next(_GITHUB_IDS), username="v0"))
        # When (monotonic) an invalidation had reached Redis, and of which version it was.
        self._told = [(time.monotonic(), 0)]
        self.observers = [Observer(group, n) for n in range(len(group.servers))]
        self._threads = [
            threading.Thread(target=self._guarded, args=(call,))
            for call in (
                self._write,
                *(partial(self._read, n) for n in range(len(_LAGS))),
                *(partial(each.run, self._stopped) for each in self.observers),
            )
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_use(self) -> None:
        """Wait until writer and readers use Redis again, and each of them has called it some times."""
        clients = [self.writer, *self.readers]
        goals = [count + _CALLS for count in self._counts()]

        def is_used() -> bool:
            assert not self.outcome.errors, self.outcome.errors
            is_reached = all(count >= goal for count, goal in zip(self._counts(), goals, strict=True))
            return is_reached and not any(each.cache.breaker.is_open for each in clients)

        wait_until(is_used, _WAIT_SECONDS)

    def _counts(self) -> list[int]:
        """Return how many invalidations the writer has delivered, and how many reads each reader has made."""
        return [len(self._told), *self.outcome.reads]

    def wait_for_failover(self) -> None:
        """Wait until another server than the first accepts writes."""
        others = [each for each in self.observers if each.position != self.primary]
        wait_until(lambda: any(each.tenures for each in others), _WAIT_SECONDS)

    def replace_writer(self) -> None:
        """Write with a new data access from now on, as a process that starts during the failover."""
        self.writer = self._open("sync", self._writer_order, 0)

    def finish(self) -> Outcome:
        """Stop, and return what was seen."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_WAIT_SECONDS)
        self._stack.close()
        tenures = [tenure for each in self.observers for tenure in each.tenures.values()]
        self.outcome.overlaps = sum(
            a.last_start > b.first_end and b.last_start > a.first_end
            for n, a in enumerate(tenures)
            for b in tenures[:n]
        )
        return self.outcome

    def _open(self, flavour: str, order: list[int], near_entries: int) -> Any:
        settings = {"near_entries": near_entries, "timeout_seconds": _CALL_SECONDS}
        cache = cache_settings(self.group.redis_url("app", order), self._namespace, **settings)
        return self._stack.enter_context(
            data_access(
                flavour, database_settings(self._database.url("app"), deadline_seconds=_WAIT_SECONDS), cache
            )
        )

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.outcome.errors.append(f"{type(error).__name__}: {error}")

    def _write(self) -> None:
        user, version = self._user, 0
        while not self._stopped.wait(_WRITER_SECONDS):
            version += 1
            writer = self.writer
            breaker = writer.cache.breaker
            reaches = not breaker.is_open
            user = writer.users.update(replace(user, username=f"v{version}"))
            if reaches and not breaker.is_open:
                # An invalidation that cannot be delivered opens the breaker.
                self._told.append((time.monotonic(), version))

    def _read(self, number: int) -> None:
        while not self._stopped.wait(_READER_SECONDS):
            before = bisect(self._told, time.monotonic() - _LAGS[number], key=itemgetter(0)) - 1
            told = self._told[max(0, before)][1]
            seen = int(self.readers[number].users.get(self._user.id).username[1:])
            self.outcome.reads[number] += 1
            self.outcome.stale += seen < told
