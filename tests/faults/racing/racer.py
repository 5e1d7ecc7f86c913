"""One process of a race: threads and tasks read and write a few users until the ledger says stop.

python -m tests.faults.racing.racer SPECIFICATION   (JSON; prints a Score as JSON)
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import traceback
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock, Thread
from time import sleep
from typing import Any

from db import AsyncDataAccess, DataAccess
from db.errors import DbError
from tests.faults.racing.ledger import Ledger
from tests.faults.racing.referee import Referee, Score
from tests.faults.racing.schemes import AsyncOurs, CountedLease, GetMissSet, Ours
from tests.integration.data_access import SHIPPED_TIMEOUT, cache_settings, database_settings

NAIVE = {"get_miss_set": GetMissSet, "counted_lease": CountedLease}
OURS = "ours"
# The pause between the writes of one writer, long enough for cache hits in between.
_PAUSE_SECONDS = 0.005


@dataclass(frozen=True)
class Specification:
    """The parameters of a race. `first_actor` is the number of this process's first thread or task."""

    scheme: str
    database_url: str
    redis_url: str
    namespace: str
    ledger: str
    user_ids: list[int]
    actors: int
    first_actor: int
    readers: int
    writers: int
    cache_changes: dict[str, Any]


class Writer:
    """Chooses the writes of one thread or task, and records them in the ledger when no invalidation is pending."""

    def __init__(self, ledger: Ledger, actor: int, users: int, score: Score) -> None:
        self._ledger = ledger
        self._actor = actor
        self._users = users
        self._score = score
        self._owed: dict[int, int] = {}

    def decide(self) -> tuple[str, int]:
        """Choose a verb of the scheme, and a user's number."""
        (verb,) = random.choices(["update", "upsert", "invalidate"], [2, 1, 1])
        return verb, random.randrange(self._users)

    def finish(self, verb: str, user: int, version: int | None, owes: bool) -> None:
        """Record a finished write. `owes` must be read after the write has returned."""
        if version is not None:
            self._owed[user] = max(self._owed.get(user, 0), version)
            self._score.writes += 1
            if verb == "invalidate":
                self._score.invalidations += 1
                self._ledger.count_invalidation(self._actor)
            self._score.undelivered += owes
        if not owes:
            for owed, newest in self._owed.items():
                self._ledger.finish_write(self._actor, owed, newest)
            self._owed.clear()


class Race:
    """This process's part of the race."""

    def __init__(self, specification: Specification) -> None:
        self._it = specification
        self._ids = specification.user_ids
        self._ledger = Ledger(Path(specification.ledger), len(self._ids), specification.actors)
        self._next_actor = specification.first_actor
        self._lock = Lock()
        self._scores: list[Score] = []

    def run(self) -> Score:
        database = database_settings(self._it.database_url)
        # Timeouts are part of the race.
        changes = {"timeout_seconds": SHIPPED_TIMEOUT} | self._it.cache_changes
        cache = cache_settings(self._it.redis_url, self._it.namespace, **changes)
        with ExitStack() as stack:
            scheme: Any
            if self._it.scheme == OURS:
                scheme = Ours(stack.enter_context(DataAccess(database, cache)), self._it.database_url)
            else:
                naive = NAIVE[self._it.scheme]
                scheme = naive(self._it.redis_url, self._it.database_url, self._it.namespace)
            threads = [
                Thread(target=self._guard, args=[part, scheme], daemon=True)
                for part, count in ((self._read, self._it.readers), (self._write, self._it.writers))
                for _ in range(count)
            ]
            for thread in threads:
                thread.start()
            if self._it.scheme == OURS:
                asyncio.run(self._run_tasks(AsyncDataAccess(database, cache)))
            for thread in threads:
                thread.join()
        return total(self._scores)

    async def _run_tasks(self, access: AsyncDataAccess) -> None:
        async with access as data:
            scheme = AsyncOurs(data, self._it.database_url)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._it.readers):
                    tasks.create_task(self._read_async(scheme, *self._join()))
                for _ in range(self._it.writers):
                    tasks.create_task(self._write_async(scheme, *self._join()))

    def _guard(self, part: Any, scheme: Any) -> None:
        actor, score = self._join()
        try:
            part(scheme, actor, score)
        except Exception:
            traceback.print_exc()
            score.errors += 1
            # An incomplete race proves nothing.
            self._ledger.stop()

    def _read(self, scheme: Any, actor: int, score: Score) -> None:
        referee = Referee(self._ledger, actor, score)
        while not self._ledger.is_stopped():
            user = random.randrange(len(self._ids))
            referee.start(user)
            try:
                version = scheme.read(self._ids[user])
            except DbError:
                traceback.print_exc()
                score.errors += 1
                continue
            referee.finish(user, version)

    async def _read_async(self, scheme: AsyncOurs, actor: int, score: Score) -> None:
        referee = Referee(self._ledger, actor, score)
        while not self._ledger.is_stopped():
            user = random.randrange(len(self._ids))
            referee.start(user)
            try:
                version = await scheme.read(self._ids[user])
            except DbError:
                traceback.print_exc()
                score.errors += 1
                continue
            referee.finish(user, version)
            # A hit in the near cache never yields, so let the other tasks run.
            await asyncio.sleep(0)

    def _write(self, scheme: Any, actor: int, score: Score) -> None:
        writer = Writer(self._ledger, actor, len(self._ids), score)
        while not self._ledger.is_stopped():
            verb, user = writer.decide()
            version = getattr(scheme, verb)(self._ids[user])
            writer.finish(verb, user, version, scheme.owes())
            sleep(random.uniform(0, 2 * _PAUSE_SECONDS))

    async def _write_async(self, scheme: AsyncOurs, actor: int, score: Score) -> None:
        writer = Writer(self._ledger, actor, len(self._ids), score)
        while not self._ledger.is_stopped():
            verb, user = writer.decide()
            version = await getattr(scheme, verb)(self._ids[user])
            writer.finish(verb, user, version, scheme.owes())
            await asyncio.sleep(random.uniform(0, 2 * _PAUSE_SECONDS))

    def _join(self) -> tuple[int, Score]:
        """Return the number of a new thread or task, and its score."""
        with self._lock:
            actor = self._next_actor
            self._next_actor += 1
            self._scores.append(Score())
            return actor, self._scores[-1]


def total(scores: list[Score]) -> Score:
    """Return the sum of the scores, with the maximum of `oldest_seconds`."""
    sums = {name: sum(getattr(score, name) for score in scores) for name in asdict(Score())}
    sums["oldest_seconds"] = max((score.oldest_seconds for score in scores), default=0.0)
    return Score(**sums)


if __name__ == "__main__":
    print(json.dumps(asdict(Race(Specification(**json.loads(sys.argv[1]))).run())))
