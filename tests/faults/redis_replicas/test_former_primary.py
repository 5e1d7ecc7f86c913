"""A process that still uses the former primary, while another one has found the new primary.

The former primary refuses writes, and still answers reads. The clock of the epochs stands still unless a test moves it,
so that the tests do not depend on the machine's pace.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from cache import tracking
from cache.epoch import RELIANCE_SECONDS
from cache.near import MISS
from db.models import NewUser
from infra.spec import redis as spec
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings, wait_until_near
from tests.promises import promise
from tests.redis_group import Group, redis_group


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def servers(docker_engine: None) -> Iterator[Group]:
    """Three servers without Sentinels, which would make the former primary a replica."""
    with redis_group(sentinels=0) as group:
        yield group


class Situation:
    """A reader whose background checks are late, and a writer, which both know the primary. `user` is cached."""

    def __init__(self, servers: Group, database: Database, namespace: str, near_entries: int) -> None:
        self.clock = Clock()
        self.servers = servers
        self.old = servers.primary()
        self.new, self.third = (n for n in range(len(servers.servers)) if n != self.old)
        self._database, self._namespace = database, namespace
        self._stack = ExitStack()
        self._near_entries = near_entries

    def __enter__(self) -> Situation:
        self.reader, self.writer = self._open(self._near_entries), self._open(0)
        self.user = self.writer.users.add(NewUser(github_id=7, username="before"))
        if self._near_entries:
            wait_until_near(self.reader, self.user.id)
        assert self.reader.users.get(self.user.id).username == "before"
        self.reader.cache._know_epoch()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        with self.servers.administrator(self.old) as client:
            client.replicaof(self.servers.addresses[self.new], spec.PORT)

    def _open(self, near_entries: int) -> Any:
        settings = cache_settings(self.servers.redis_url("app"), self._namespace, near_entries=near_entries)
        data = self._stack.enter_context(
            data_access("sync", database_settings(self._database.url("app")), settings)
        )
        data.cache._probing.stop()
        self.find_primary(data)
        return data

    def find_primary(self, data: Any) -> None:
        """Check in the place of the background, until the primary is in use."""

        def is_used() -> bool:
            data.cache._probe()
            self.clock.now += RELIANCE_SECONDS + 0.01
            return not data.cache.breaker.is_open

        wait_until(is_used, 120)

    def promote(self) -> None:
        """Make another server the primary, so that the former one has no replicas. Then change the user."""
        with self.servers.administrator(self.new) as client:
            client.replicaof("NO", "ONE")
        with self.servers.administrator(self.third) as client:
            client.replicaof(self.servers.addresses[self.new], spec.PORT)
        wait_until(lambda: self.servers.accepts_writes(self.new), 120)
        assert not self.servers.accepts_writes(self.old)
        self.user = self.writer.users.update(replace(self.user, username="after"))
        assert self.writer.cache.breaker.is_open

    def reads(self) -> str:
        return str(self.reader.users.get(self.user.id).username)


@pytest.fixture
def situation(
    servers: Group,
    database: Database,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Situation]:
    """Parametrized with the entries of the reader's near cache."""
    made = Situation(servers, database, namespace, request.param)
    for module in ("epoch", "primary"):
        monkeypatch.setattr(f"cache.{module}.monotonic", made.clock)
    # Only a refusal ends the near cache's freshness, not the machine's pace.
    monkeypatch.setattr("cache.near.FRESH_SECONDS", 600.0)
    monkeypatch.setattr("cache.tracking._LATE_SECONDS", 60.0)
    with made:
        yield made


@promise("a new primary is not used while another process may rely on the former one")
@pytest.mark.parametrize("situation", [0], indirect=True)
def test_a_writer_waits_until_no_reader_relies_on_the_former_primary(situation: Situation) -> None:
    situation.promote()
    situation.writer.cache._probe()
    # The reader may still use the former primary, so the invalidation must not count as delivered.
    assert situation.reads() == "before"
    assert situation.writer.cache.breaker.is_open
    situation.find_primary(situation.writer)
    assert situation.reads() == "after"


@promise("a new primary is not used while another process may rely on the former one", control=True)
@pytest.mark.parametrize("situation", [0], indirect=True)
def test_without_the_wait_a_reader_is_stale_after_the_invalidation(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.primary.RELIANCE_SECONDS", 0.0)
    now = situation.clock.now
    situation.promote()

    def is_used() -> bool:
        situation.writer.cache._probe()
        return not situation.writer.cache.breaker.is_open

    wait_until(is_used, 120)
    assert situation.clock.now == now
    assert situation.reads() == "before"


@promise("the near cache returns nothing from before a failover")
@pytest.mark.parametrize("situation", [100], indirect=True)
def test_the_near_cache_is_emptied_by_a_failover_and_follows_the_new_primary(situation: Situation) -> None:
    situation.promote()
    wait_until(lambda: situation.reader.users.cached.peek(situation.user.id) is MISS, 120)
    situation.find_primary(situation.writer)
    assert situation.reads() == "after"
    wait_until(lambda: situation.reader.cache.breaker.is_open, 120)
    situation.find_primary(situation.reader)
    wait_until_near(situation.reader, situation.user.id)
    situation.writer.users.update(replace(situation.user, username="later"))
    wait_until(lambda: situation.reads() == "later", 120)


@promise("the near cache returns nothing from before a failover", control=True)
@pytest.mark.parametrize("situation", [100], indirect=True)
def test_with_a_ping_the_near_cache_keeps_answering_from_the_former_primary(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, has_asked = tracking._ask, threading.Event()

    def harmless(connection: Any, *command: str) -> None:
        ask(connection, *(("PING",) if command[0] == "UNLINK" else command))
        has_asked.set()

    monkeypatch.setattr(tracking, "_ask", harmless)
    # An UNLINK that has begun before would be refused after the failover.
    assert has_asked.wait(120)
    situation.promote()
    situation.find_primary(situation.writer)
    assert situation.reads() == "before"
