"""Compare random sequences of writes, deletions, invalidations, evictions, reads and slow reads with a model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, ClassVar, Protocol

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from db.errors import VersionConflict
from db.models import NewUser
from tests import containers
from tests.conftest import Database
from tests.containers import Server
from tests.faults.racing.schemes import CountedLease, GetMissSet, Naive
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise
from tests.scale import scaled

EXAMPLES, STEPS = scaled(25, 500), scaled(40, 60)
# Users are identified by github_id, because an upsert after a deletion gives the same user a new id.
GITHUB_IDS = st.integers(1, 3)
# The number of concurrent slow reads. Each takes a thread, and one of the few of the event loop.
SLOW_READS = 4


class SlowReads:
    """Replaces the loading from the database: it reads at once, but returns the result only when released."""

    def __init__(self) -> None:
        self._let_go: dict[int, threading.Event] = {}
        self._has_read: dict[int, threading.Event] = {}
        self._threads = ThreadPoolExecutor(SLOW_READS)

    def start(self, user_id: int, read: Callable[[int], Any]) -> Future[Any]:
        """Start a read, and return when it has read the database or has finished without it."""
        self._let_go[user_id], self._has_read[user_id] = threading.Event(), threading.Event()
        reading = self._threads.submit(read, user_id)
        reading.add_done_callback(lambda _: self._has_read[user_id].set())
        assert self._has_read[user_id].wait(60)
        return reading

    def let_go(self, user_id: int) -> None:
        self._let_go[user_id].set()

    def let_all_go(self) -> None:
        for let_go in self._let_go.values():
            let_go.set()

    def around(self, load: Callable[..., Any]) -> Callable[..., Any]:
        def slow(user_id: int, *arguments: Any, **keywords: Any) -> Any:
            loaded = load(user_id, *arguments, **keywords)
            self._wait(user_id)
            return loaded

        async def slow_async(user_id: int, *arguments: Any, **keywords: Any) -> Any:
            loaded = await load(user_id, *arguments, **keywords)
            await asyncio.to_thread(self._wait, user_id)
            return loaded

        return slow_async if asyncio.iscoroutinefunction(load) else slow

    def _wait(self, user_id: int) -> None:
        self._has_read[user_id].set()
        assert self._let_go[user_id].wait(60)


class System(Protocol):
    """The system under test. Reads and writes return row versions, or None for a missing user."""

    slow: SlowReads

    def read(self, user_id: int) -> int | None: ...
    def read_elsewhere(self, user_id: int) -> int | None: ...
    def read_many(self, user_ids: list[int]) -> list[int | None]: ...
    def upsert(self, github_id: int) -> tuple[int, int]: ...
    def update(self, user_id: int) -> int: ...
    def delete(self, user_id: int) -> None: ...
    def invalidate(self, user_id: int) -> None: ...
    def catch_up(self) -> None: ...


class Ours:
    """Two data accesses that represent two processes. The second one makes the slow reads."""

    def __init__(self, here: Any, elsewhere: Any) -> None:
        self._here, self._elsewhere = here, elsewhere
        self.slow = SlowReads()
        users = elsewhere.users
        users = getattr(users, "_target", users)
        users._load = self.slow.around(users._load)

    def read(self, user_id: int) -> int | None:
        return _version(self._here.users.find(user_id))

    def read_elsewhere(self, user_id: int) -> int | None:
        return _version(self._elsewhere.users.find(user_id))

    def read_many(self, user_ids: list[int]) -> list[int | None]:
        return [_version(user) for user in self._here.users.get_many(user_ids)]

    def upsert(self, github_id: int) -> tuple[int, int]:
        user = self._here.users.upsert(NewUser(github_id=github_id, username="upserted"))
        return user.id, user.row_version

    def update(self, user_id: int) -> int:
        user = self._here.users.get(user_id)
        with pytest.raises(VersionConflict):
            self._here.users.update(replace(user, row_version=user.row_version + 7))
        return int(self._here.users.update(replace(user, username="updated")).row_version)

    def delete(self, user_id: int) -> None:
        self._here.users.delete(user_id)

    def invalidate(self, user_id: int) -> None:
        assert self._here.users.cached.drop([(user_id, None)])

    def catch_up(self) -> None:
        self._here.outbox.drain()


def _version(user: Any) -> int | None:
    return None if user is None else int(user.row_version)


class NaiveSystem:
    """A naive scheme instead of the data access. It invalidates whatever it writes."""

    def __init__(
        self, kind: type[Naive], redis_url: str, connection: Any, database_url: str, namespace: str
    ) -> None:
        self._connection = connection
        self._here = kind(redis_url, database_url, namespace)
        self._elsewhere = kind(redis_url, database_url, namespace)
        self.slow = SlowReads()
        self._here._load = self._load  # type: ignore[method-assign]
        self._elsewhere._load = self.slow.around(self._load)  # type: ignore[method-assign]

    def read(self, user_id: int) -> int | None:
        return self._here.read(user_id) or None

    def read_elsewhere(self, user_id: int) -> int | None:
        return self._elsewhere.read(user_id) or None

    def read_many(self, user_ids: list[int]) -> list[int | None]:
        return [self.read(user_id) for user_id in user_ids]

    def upsert(self, github_id: int) -> tuple[int, int]:
        user_id, version = self._connection.execute(
            "INSERT INTO users (github_id, username) VALUES (%s, 'x')"
            " ON CONFLICT (github_id) DO UPDATE SET username = 'y' RETURNING id, row_version",
            [github_id],
        ).fetchone()
        self.invalidate(user_id)
        return user_id, version

    def update(self, user_id: int) -> int:
        return self._here.invalidate(user_id)

    def delete(self, user_id: int) -> None:
        self._connection.execute("DELETE FROM users WHERE id = %s", [user_id])
        self.invalidate(user_id)

    def invalidate(self, user_id: int) -> None:
        self._here._redis.delete(*self._here._keys(user_id))

    def catch_up(self) -> None:
        rows = self._connection.execute("SELECT id FROM users").fetchall()
        for (user_id,) in rows:
            self.invalidate(user_id)

    def _load(self, user_id: int) -> int:
        row = self._connection.execute("SELECT row_version FROM users WHERE id = %s", [user_id]).fetchone()
        return 0 if row is None else int(row[0])


class CacheMachine(RuleBasedStateMachine):
    """The model: the row version of each user, or None after a deletion."""

    system: ClassVar[Any]
    administrator: ClassVar[Any]
    connection: ClassVar[Any]
    owner: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.system.slow.let_all_go()
        # The same ids in every run, so that a failure can be reproduced.
        self.owner.execute("TRUNCATE groundwork.users RESTART IDENTITY CASCADE")
        self.administrator.flushall()
        self.ids: dict[int, int] = {}
        self.versions: dict[int, int | None] = {}
        self.reading: dict[int, tuple[Future[Any], int | None]] = {}

    @rule(github_id=GITHUB_IDS)
    def upsert(self, github_id: int) -> None:
        user_id, version = self.system.upsert(github_id)
        self.ids[github_id] = user_id
        self.versions[user_id] = version

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def update(self, data: Any) -> None:
        user_id = self._there(data)
        self.versions[user_id] = self.system.update(user_id)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        user_id = self._there(data)
        self.system.delete(user_id)
        self.versions[user_id] = None
        self.ids = {github_id: each for github_id, each in self.ids.items() if each != user_id}

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def change_elsewhere_and_invalidate(self, data: Any) -> None:
        user_id = self._there(data)
        self._change(user_id)
        self.system.invalidate(user_id)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def change_elsewhere_and_drain(self, data: Any) -> None:
        self._change(self._there(data))
        self.system.catch_up()

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def read(self, data: Any) -> None:
        user_id = self._known(data)
        assert self.system.read(user_id) == self.versions[user_id]

    @rule(ahead=st.integers(1, 3))
    def read_one_that_is_to_come(self, ahead: int) -> None:
        user_id = max(self.versions, default=0) + ahead
        assert self.system.read(user_id) is None

    @precondition(lambda self: self.versions)
    @rule()
    def read_all(self) -> None:
        user_ids = list(self.versions)
        assert self.system.read_many(user_ids) == list(self.versions.values())

    @precondition(lambda self: self.versions.keys() - self.reading.keys() and len(self.reading) < SLOW_READS)
    @rule(data=st.data())
    def begin_a_slow_read(self, data: Any) -> None:
        user_id = data.draw(st.sampled_from(sorted(self.versions.keys() - self.reading.keys())))
        reading = self.system.slow.start(user_id, self.system.read_elsewhere)
        self.reading[user_id] = reading, self.versions[user_id]

    @precondition(lambda self: self.reading)
    @rule(data=st.data())
    def finish_a_slow_read(self, data: Any) -> None:
        self._finish(data.draw(st.sampled_from(sorted(self.reading))))

    @precondition(lambda self: self.versions)
    @rule(data=st.data(), prefix=st.sampled_from(["gw", "gwl"]))
    def evict(self, data: Any, prefix: str) -> None:
        user_id = self._known(data)
        keys = list(self.administrator.scan_iter(f"{prefix}:*:{{{user_id}}}"))
        if keys:
            self.administrator.unlink(*keys)

    @rule()
    def flush(self) -> None:
        self.administrator.flushall()

    def teardown(self) -> None:
        for user_id in list(self.reading):
            self._finish(user_id)
        for user_id, version in self.versions.items():
            assert self.system.read(user_id) == version

    def _finish(self, user_id: int) -> None:
        reading, version_at_start = self.reading.pop(user_id)
        self.system.slow.let_go(user_id)
        # The result is at least as new as the start of the read. Other rules check what it leaves in the cache.
        assert reading.result(60) == version_at_start

    def _change(self, user_id: int) -> None:
        (version,) = self.connection.execute(
            "UPDATE users SET username = 'elsewhere' WHERE id = %s RETURNING row_version", [user_id]
        ).fetchone()
        self.versions[user_id] = version

    def _there(self, data: Any) -> int:
        return int(data.draw(st.sampled_from(sorted(self.ids.values()))))

    def _known(self, data: Any) -> int:
        return int(data.draw(st.sampled_from(sorted(self.versions))))


@pytest.fixture(scope="module")
def own_redis(docker_engine: None) -> Iterator[Server]:
    """A Redis for this module only, because it is flushed."""
    with containers.redis_server(administrator=True) as server:
        yield server


@pytest.fixture
def connection(database: Database) -> Iterator[Any]:
    with psycopg.connect(database.url("app"), autocommit=True) as connection:
        yield connection


Run = Callable[..., None]


@pytest.fixture
def run(database: Database, own_redis: Server, connection: Any) -> Iterator[Run]:
    """Run the state machine with a system."""
    with (
        redis.Redis.from_url(own_redis.redis_url("administrator"), driver_info=None) as client,
        psycopg.connect(database.url("migrator"), autocommit=True, options="-c role=owner") as owner,
    ):

        def run_machine(system: System, **changes: Any) -> None:
            machine = type("Machine", (CacheMachine,), {})
            machine.system, machine.administrator = system, client
            machine.connection, machine.owner = connection, owner
            options: dict[str, Any] = {
                "max_examples": EXAMPLES,
                "stateful_step_count": STEPS,
                "deadline": None,
                "database": None,
                "suppress_health_check": list(HealthCheck),
                # With real servers, shrinking would exceed the time limit of the test.
                "phases": [Phase.explicit, Phase.generate],
            }
            run_state_machine_as_test(machine, settings=settings(**options | changes))

        yield run_machine


@promise("no read returns data older than a completed write, with racing threads and processes")
@pytest.mark.timeout(scaled(300, 3600))
def test_every_read_is_what_the_model_says(
    flavour: str, database: Database, own_redis: Server, namespace: str, run: Run
) -> None:
    cache = cache_settings(own_redis.redis_url("app"), namespace, near_entries=0)
    with ExitStack() as stack:
        here, elsewhere = (
            stack.enter_context(data_access(flavour, database_settings(database.url("app")), cache))
            for _ in range(2)
        )
        run(Ours(here, elsewhere))


@promise("no read returns data older than a completed write, with racing threads and processes", control=True)
@pytest.mark.parametrize("kind", [GetMissSet, CountedLease])
def test_the_naive_schemes_fail_the_model(
    kind: type[Naive], database: Database, own_redis: Server, namespace: str, connection: Any, run: Run
) -> None:
    system = NaiveSystem(kind, own_redis.redis_url("app"), connection, database.url("app"), namespace)
    with pytest.raises(AssertionError):
        run(system, max_examples=500, phases=[Phase.generate], derandomize=True, print_blob=False)
