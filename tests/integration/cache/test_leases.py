"""The scripts that keep stale reads out of Redis, on a real server, and a scheme without them as a control."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest
import redis
from msgspec.structs import replace

from cache.keys import EntityKeys
from cache.scripts import DROP, FILL, REPLACE, TAKE_LEASE, TAKE_REFRESH, LuaScript
from db.models import USER_SCHEMA, NewUser
from tests.conftest import Connect
from tests.containers import QUIET, Server
from tests.promises import promise

EPOCH = b"0123456789abcdef"
# A lease that outlives the test. LEASE refuses every further caller; JOINED accepts one after 1 ms.
LEASE = (600_000, 600_000, EPOCH)
JOINED = (600_000, 1, EPOCH)
LIFE = (600_000, EPOCH)
Run = Callable[..., Any]


@pytest.fixture
def app(redis_server: Server) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.redis_url("app"), **QUIET) as client:
        yield client


@pytest.fixture
def run(app: Any, namespace: str) -> Run:
    """Run a script with the keys of record 1."""
    keys = EntityKeys(namespace, "thing", 1).both(1)

    def run_script(script: LuaScript, *arguments: object) -> Any:
        app.script_load(script.source)
        return app.evalsha(script.sha, 2, *keys, *arguments)

    return run_script


def _of(text: str) -> bytes:
    """Return an entry of the current epoch."""
    return EPOCH + b":" + text.encode()


def test_one_caller_gets_the_lease_and_the_next_only_after_a_while(run: Run) -> None:
    assert run(TAKE_LEASE, "a", *LEASE) == [None, 1]
    assert run(TAKE_LEASE, "b", *LEASE) == [None, 0]
    time.sleep(0.01)
    assert run(TAKE_LEASE, "b", *JOINED) == [None, 1]
    assert run(TAKE_LEASE, "c", *LEASE) == [None, 0]


@pytest.mark.parametrize("holder", ["a", "b"])
def test_every_holder_may_fill(run: Run, holder: str) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    time.sleep(0.01)
    run(TAKE_LEASE, "b", *JOINED)
    assert run(FILL, holder, _of("1:x"), *LIFE) == 1
    assert run(TAKE_LEASE, "c", *LEASE) == [_of("1:x")]


def test_only_lease_holders_may_fill(run: Run) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    assert run(FILL, "stranger", _of("1:x"), *LIFE) == 0
    assert run(TAKE_LEASE, "b", *LEASE) == [None, 0]


@pytest.mark.parametrize("end", [(DROP, -1, EPOCH), (DROP, 5, EPOCH), (REPLACE, 5, _of("5:y"), *LIFE)])
def test_an_invalidation_ends_the_lease(run: Run, end: tuple[Any, ...]) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    run(*end)
    assert run(FILL, "a", _of("4:stale"), *LIFE) == 0
    # The same while another caller has the lease, because the nonce is not used again.
    run(TAKE_LEASE, "b", *LEASE)
    assert run(FILL, "a", _of("4:stale"), *LIFE) == 0
    assert run(FILL, "b", _of("5:y"), *LIFE) == 1


@promise("a write never replaces a cached value of a higher row_version")
@pytest.mark.parametrize(
    ("cached", "written", "outcome", "left"),
    [
        (_of("4:old"), 5, 1, _of("5:new")),
        # Of a write that a failover has lost, whose version was then used again.
        (_of("5:lost"), 5, 1, _of("5:new")),
        (_of("10:newer"), 9, 2, _of("10:newer")),
        (_of("-"), 5, 0, None),
        (_of("junk"), 5, 0, None),
        (b"of another epoch:4:old", 5, 0, None),
        (b"of another epoch:6:newer", 5, 0, None),
    ],
)
def test_a_write_replaces_only_what_is_not_newer(
    run: Run, cached: bytes, written: int, outcome: int, left: bytes | None
) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    run(FILL, "a", cached, *LIFE)
    assert run(REPLACE, written, _of(f"{written}:new"), *LIFE) == outcome
    assert run(TAKE_LEASE, "b", *LEASE)[0] == left


@promise("a write invalidates what releases with another schema have cached")
def test_a_write_invalidates_entries_and_leases_of_other_releases(
    data: Any, app: Any, redis_as_ops: Any, namespace: str
) -> None:
    """During a rollout two schemas are in use, and each write invalidates the entries of both."""
    user = data.users.add(NewUser(github_id=7, username="before"))
    other = EntityKeys(namespace, "user", USER_SCHEMA + 1)
    for key in other.both(user.id):
        redis_as_ops.set(key, b"of another release", ex=60)
    data.users.update(replace(user, username="after"))
    assert redis_as_ops.exists(*other.both(user.id)) == 0


@pytest.mark.parametrize(
    ("cached", "written", "outcome"),
    [
        (_of("4:x"), 5, 1),
        (_of("5:x"), 5, 2),
        (_of("6:x"), 5, 1),
        (_of("6:x"), -1, 1),
        (_of("1798761600000005:x"), 1798761600000005, 2),
        (_of("1798761600000005:x"), 1798761600000004, 1),
        (_of("-"), 5, 1),
        (_of("junk"), 5, 1),
        (b"of another epoch:6:x", 5, 1),
    ],
)
def test_an_invalidation_keeps_only_the_entry_of_the_current_row(
    run: Run, cached: bytes, written: int, outcome: int
) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    run(FILL, "a", cached, *LIFE)
    assert run(DROP, written, EPOCH) == outcome
    assert (run(TAKE_LEASE, "b", *LEASE)[0] == cached) is (outcome == 2)


def test_an_entry_of_another_epoch_is_treated_as_missing(run: Run) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    run(FILL, "a", b"of another epoch:4:x", *LIFE)
    assert run(TAKE_LEASE, "b", *LEASE) == [None, 1]
    assert run(FILL, "b", _of("3:y"), *LIFE) == 1
    assert run(TAKE_LEASE, "c", *LEASE) == [_of("3:y")]


def test_a_fill_never_takes_the_place_of_a_newer_version(run: Run) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    run(FILL, "a", _of("5:x"), *LIFE)
    assert run(TAKE_REFRESH, "b", 600_000, _of("5:")) == 1
    assert run(FILL, "b", _of("4:from a replica"), *LIFE) == 0
    assert run(TAKE_LEASE, "c", *LEASE) == [_of("5:x")]


def test_one_caller_may_refresh_an_entry_and_only_the_one_it_saw(run: Run) -> None:
    run(TAKE_LEASE, "a", *LEASE)
    run(FILL, "a", _of("5:x"), *LIFE)
    assert run(TAKE_REFRESH, "b", 600_000, _of("4:")) == 0
    assert run(TAKE_REFRESH, "b", 600_000, _of("5:")) == 1
    assert run(TAKE_REFRESH, "c", 600_000, _of("5:")) == 0
    assert run(FILL, "c", _of("5:y"), *LIFE) == 0
    assert run(FILL, "b", _of("5:y"), *LIFE) == 1


@promise("the result of a read is not cached if a write happened meanwhile")
def test_a_read_older_than_a_concurrent_write_is_not_cached(data: Any, flavour: str, open_data: Any) -> None:
    user = data.users.add(NewUser(github_id=7, username="before"))
    elsewhere = open_data()

    def overtaken(read: Any) -> Any:
        elsewhere.users.update(replace(read, username="after"))
        return read

    def load(_: int) -> Any:
        return overtaken(user)

    async def load_async(_: int) -> Any:
        return overtaken(user)

    # The write runs in the thread of another event loop; the reader's own loop would only be blocked by it.
    read = data.users.cached.find(user.id, load_async if flavour == "async" else load)

    assert read.username == "before"
    assert data.users.get(user.id).username == "after"


@promise("the result of a read is not cached if a write happened meanwhile", control=True)
def test_without_leases_the_stale_read_stays_cached(app: Any, namespace: str) -> None:
    """The negative control: GET, miss, SET and a concurrent write with DEL, in the order of the test above."""
    table, key = {1: "before"}, f"gw:{namespace}:naive:{{1}}"
    assert app.get(key) is None
    read = table[1]
    table[1] = "after"
    app.delete(key)
    app.set(key, read, ex=60)
    assert app.get(key) == b"before"


class Scheme(Protocol):
    def read(self) -> int: ...
    def write(self) -> int: ...


class Ours:
    """One user, read and written through the data access. Its version is the row's."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._user = data.users.add(NewUser(github_id=1, username="x"))

    def read(self) -> int:
        return int(self._data.users.get(self._user.id).row_version)

    def write(self) -> int:
        self._user = self._data.users.update(self._user)
        return int(self._user.row_version)


class GetMissSet:
    """The usual scheme: GET; after a miss read and SET. Write and DEL."""

    def __init__(self, connect: Connect, app: Any, key: str) -> None:
        self._connect, self._app, self._key = connect, app, key
        self._local = threading.local()
        self._connection().execute("INSERT INTO users (github_id, username) VALUES (1, 'x')")

    def read(self) -> int:
        if (cached := self._app.get(self._key)) is not None:
            return int(cached)
        (version,) = self._connection().execute("SELECT row_version FROM users").fetchone()
        self._app.set(self._key, version, ex=60)
        return int(version)

    def write(self) -> int:
        (version,) = (
            self._connection().execute("UPDATE users SET username = 'x' RETURNING row_version").fetchone()
        )
        self._app.delete(self._key)
        return int(version)

    def _connection(self) -> Any:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect("app")
        return self._local.connection


def stale_reads(scheme: Scheme, evict: Callable[[], object], seconds: float) -> int:
    """Return the number of reads older than a write that had finished before them.

    The race takes so many seconds, and on a busy machine as long as some hundred reads take.
    """
    floor = scheme.write()
    ends_at = time.monotonic() + seconds
    reads = [0] * 4

    def is_over() -> bool:
        now = time.monotonic()
        return (now > ends_at and sum(reads) >= 400) or now > ends_at + 300

    def write() -> None:
        nonlocal floor
        while not is_over():
            floor = scheme.write()
            if random.random() < 0.3:
                evict()
            time.sleep(random.uniform(0, 0.004))

    def read(number: int) -> int:
        stale = 0
        while not is_over():
            least = floor
            stale += scheme.read() < least
            reads[number] += 1
        return stale

    with ThreadPoolExecutor(5) as threads:
        writer = threads.submit(write)
        stale = sum(reader.result() for reader in [threads.submit(read, number) for number in range(4)])
        writer.result()
    assert sum(reads) >= 400
    return stale


@promise("no read returns data older than a completed write, with racing threads and processes")
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_racing_readers_never_see_less_than_a_finished_write(
    data: Any, redis_as_ops: Any, namespace: str
) -> None:
    scheme = Ours(data)
    key = EntityKeys(namespace, "user", USER_SCHEMA).value(scheme._user.id)
    assert stale_reads(scheme, lambda: redis_as_ops.unlink(key), 3.0) == 0


@promise("no read returns data older than a completed write, with racing threads and processes", control=True)
def test_the_usual_scheme_fails_the_same_race(connect: Connect, app: Any, namespace: str) -> None:
    key = f"gw:{namespace}:naive:{{2}}"
    scheme = GetMissSet(connect, app, key)
    stale = 0
    for _ in range(5):
        stale += stale_reads(scheme, lambda: app.delete(key), 2.0)
        if stale:
            break
    assert stale > 0
