"""Several processes read and write a few users concurrently, while Redis is filled, flushed and restarted."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import containers
from tests.conftest import Database
from tests.containers import Server
from tests.faults.racing.racer import NAIVE, OURS
from tests.faults.racing.start import USERS, Course
from tests.promises import promise
from tests.scale import IS_FULL, scaled

READS = scaled(10_000, 1_000_000)
# A hit in the near cache takes a fiftieth of the time, and the writers need time too.
NEAR_READS = scaled(150_000, 10_000_000)
# The promise of docs/data-access.md for the near cache. On a machine that runs other tests, three times that.
NEAR_BOUND_SECONDS = 0.25 * (1 if IS_FULL else 3)


@pytest.fixture(scope="module")
def pressed_redis(docker_engine: None) -> Iterator[Server]:
    """A small Redis for this module only, which evicts the least recently used keys."""
    with containers.redis_server(
        maxmemory=6 * 1024**2, eviction_policy="allkeys-lru", administrator=True, keeps_port=True
    ) as server:
        yield server


@pytest.fixture
def course(database: Database, pressed_redis: Server, namespace: str, tmp_path: Path) -> Course:
    return Course(database, pressed_redis.redis_url("app"), namespace, tmp_path)


class Disturbance:
    """Disturbs Redis during a race, from the first reads to the last."""

    def __init__(self, server: Server, namespace: str, reads: int) -> None:
        self._server = server
        self._namespace = namespace
        self._redis: Any = redis.Redis.from_url(
            server.redis_url("administrator"), driver_info=None, socket_timeout=30
        )
        self._restart_at = reads // 2
        self._flushed_at = time.monotonic()
        # Evictions since the server's start that `evicted` contains.
        self._counted = 0
        self.evicted = self.flushes = self.restarts = 0

    def __call__(self, reads: int) -> bool:
        """Take the next step, and return whether every kind of step has been taken."""
        if reads > self._restart_at and not self.restarts:
            self._count_evictions()
            self._server.restart()
            self._counted = 0
            self.restarts += 1
        # On a busy machine it takes longer than a second to fill Redis.
        elif time.monotonic() - self._flushed_at > 1 and self._count_evictions():
            self._redis.flushall()
            self._flushed_at = time.monotonic()
            self.flushes += 1
        else:
            self._fill()
        return self.restarts == 1 and min(self.flushes, self.evicted) > 0

    def _count_evictions(self) -> int:
        """Add the evictions since the last call to `evicted`, and return how many there were."""
        new = int(self._redis.info("stats")["evicted_keys"]) - self._counted
        self._counted += new
        self.evicted += new
        return new

    def _fill(self) -> None:
        """Fill Redis, so that it evicts, and delete some of the race's keys, which are used too often to be evicted."""
        ballast = {f"gw:ballast:{random.randrange(1000)}": b"x" * 20_000 for _ in range(20)}
        self._redis.mset(ballast)
        for user_id in random.sample(range(1, USERS + 1), 4):
            prefix = random.choice(["gw", "gwl"])
            for schema in (1, 2):
                self._redis.unlink(f"{prefix}:{self._namespace}:v{schema}:user:{{{user_id}}}")
            self._redis.unlink(f"{prefix}:{self._namespace}:naive:{{{user_id}}}")


@promise("no read returns data older than a completed write, with racing threads and processes")
@pytest.mark.timeout(3600 if IS_FULL else 600)
@pytest.mark.parametrize("near", ["near_off", "near_on"])
def test_no_read_is_older_than_a_finished_write(
    course: Course, pressed_redis: Server, namespace: str, near: str
) -> None:
    reads, entries = (READS, 0) if near == "near_off" else (NEAR_READS, 1000)
    disturbance = Disturbance(pressed_redis, namespace, reads)

    # Without enough writes there is no race.
    score = course.race(
        OURS, reads=reads, invalidations=101, disturb=disturbance, seconds=3000, near_entries=entries
    )

    print(score)
    assert score.reads >= reads
    assert score.errors == 0
    if near == "near_off":
        assert score.stale == 0
    assert score.oldest_seconds <= NEAR_BOUND_SECONDS
    assert min(score.writes, score.invalidations) > 100
    assert disturbance.restarts == 1
    assert min(disturbance.flushes, disturbance.evicted) > 0


@promise("no read returns data older than a completed write, with racing threads and processes", control=True)
@pytest.mark.timeout(3600 if IS_FULL else 600)
@pytest.mark.parametrize("scheme", list(NAIVE) if IS_FULL else ["get_miss_set"])
def test_the_naive_schemes_fail_the_same_race(
    course: Course, pressed_redis: Server, namespace: str, scheme: str
) -> None:
    reads = min(READS, 100_000)
    stale = 0
    for _ in range(5):
        stale += course.race(scheme, reads=reads, disturb=Disturbance(pressed_redis, namespace, reads)).stale
        if stale:
            break
    assert stale > 0
