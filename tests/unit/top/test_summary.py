"""Readings become rates, and a reset, a restart or a silent server becomes an unknown value."""

from __future__ import annotations

from typing import Any

from infra.spec.redis_replication import server_at
from ops.errors import OpsError
from ops.top import summary
from ops.top.sources import AccessReading, PostgresReading, RedisReading
from ops.top.watch import Pace, Seen, Watch
from tests.cases import in_case
from tests.promises import promise
from tests.unit.top.snapshots import session

SERVER = {
    "version": "15.20 (Debian)", "epoch": "a", "uptime_seconds": 9.0, "max": 97, "used": 1, "active": 1,
    "idle_in_transaction": 0, "waiting_for_lock": 0, "oldest_transaction_seconds": None, "deadlocks": 0,
    "xact_commit": 100, "xact_rollback": 0, "blks_hit": 900, "blks_read": 100, "temp_bytes": 0,
}  # fmt: skip
INFO = {
    "redis_version": "7.0.15", "run_id": "a", "uptime_in_seconds": 9, "connected_clients": 1, "used_memory": 5,
    "maxmemory": 0, "total_commands_processed": 100, "keyspace_hits": 30, "keyspace_misses": 10,
    "evicted_keys": 0, "expired_keys": 0,
}  # fmt: skip


def postgres(*counters: dict[str, Any]) -> Any:
    """Return what is known of Postgres after readings 2 s apart."""
    readings = [
        PostgresReading(2.0 * n, "db:5432", SERVER | changes, (), (), None, None)
        for n, changes in enumerate(counters)
    ]
    return summary.postgres(Seen(*([None, *readings][-2:])), "?", 0, now=0.0)


def redis(*counters: dict[str, Any]) -> Any:
    readings = [RedisReading(2.0 * n, "redis:6379", INFO | changes) for n, changes in enumerate(counters)]
    return summary.redis(Seen(*([None, *readings][-2:])), "?", 0, now=0.0)


def test_counters_become_rates_and_shares() -> None:
    found = postgres({}, {"xact_commit": 150, "blks_hit": 990, "blks_read": 110})
    assert (found.commits_per_second, found.buffer_hit_rate) == (25.0, 90.0)
    assert (found.version, found.address) == ("15.20", "db:5432")
    cache = redis({}, {"total_commands_processed": 300, "keyspace_hits": 60, "keyspace_misses": 20})
    assert (cache.commands_per_second, cache.hit_rate) == (100.0, 75.0)


@promise("after a restart or a reset, top shows no rate until it has two readings")
def test_after_a_restart_or_a_reset_the_rate_is_unknown() -> None:
    cases: list[dict[str, Any]] = [
        # A restart, with fewer and with more transactions than before, and a reset of a counter alone.
        {"epoch": "b", "xact_commit": 10},
        {"epoch": "b", "xact_commit": 1000},
        {"xact_commit": 10},
    ]
    for change in cases:
        with in_case(change):
            assert postgres({}, change).commits_per_second is None


@promise("after a restart or a reset, top shows no rate until it has two readings")
def test_after_a_restart_of_redis_the_rates_are_unknown() -> None:
    found = redis({}, {"run_id": "b", "total_commands_processed": 5000, "keyspace_hits": 31})
    assert (found.commands_per_second, found.hit_rate) == (None, None)


def test_one_reading_has_levels_and_no_rates() -> None:
    found = postgres({})
    assert (found.is_up, found.counts.used, found.commits_per_second) == (True, 1, None)


def test_the_version_of_valkey_is_not_the_one_of_redis_that_it_is_compatible_with() -> None:
    assert redis({}).version == "7.0.15"
    assert redis({"redis_version": "7.2.4", "valkey_version": "8.0.1"}).version == "8.0.1 (Valkey)"


def test_a_share_of_nothing_is_unknown() -> None:
    assert redis({}, {}).hit_rate is None


def test_the_replicas_of_redis_have_their_lag() -> None:
    replica = {"ip": "10.0.0.2", "port": 6379, "state": "online", "offset": 90, "lag": 1}
    found = redis({"connected_slaves": 1, "slave0": replica, "master_repl_offset": 100})
    assert [(each.name, each.lag_bytes) for each in found.replicas] == [("10.0.0.2:6379", 10)]


def test_pools_and_outbox_come_from_the_metrics() -> None:
    labels = (("pool", "app"),)
    values = {"size": 4.0, "available": 3.0, "max": 8.0}
    metrics = {(f"groundwork_db_pool_{name}", labels): value for name, value in values.items()}
    metrics |= {
        ("groundwork_db_requests_waiting", labels): 1.0,
        ("groundwork_db_pool_requests_total", labels): 10.0,
        ("groundwork_outbox_depth", ()): 6.0,
    }
    later = metrics | {("groundwork_db_pool_requests_total", labels): 30.0}
    found = summary.access(Seen(AccessReading(0.0, metrics), AccessReading(2.0, later)), "?", now=0.0)
    (pool,) = found.pools
    assert (pool.size, pool.idle, pool.max, pool.waiting, pool.requests_per_second) == (4, 3, 8, 1, 10.0)
    assert found.outbox is not None
    assert (found.outbox.rows, found.outbox.age_seconds) == (6, None)


class _Source:
    """Answers with the given values in turn, and fails where a value is None."""

    def __init__(self, *values: int | None) -> None:
        self.values = list(values)
        self.is_closed = False

    def read(self) -> int:
        value = self.values.pop(0)
        if value is None:
            raise OpsError("gone")
        return value

    def close(self) -> None:
        self.is_closed = True


def test_readings_before_an_outage_are_not_compared_with_those_after_it() -> None:
    source = _Source(1, 2, None, 4)
    watch = Watch(source, Pace(0.0))
    seen = []
    watch._on_read = lambda: seen.append(watch.seen)
    watch.start(rounds=4)
    watch.join()
    assert [(each.previous, each.last, each.reason) for each in seen] == [
        (None, 1, None),
        (1, 2, None),
        (None, None, "gone"),
        (None, 4, None),
    ]
    assert source.is_closed


def test_a_server_that_takes_long_is_shown_as_not_answering() -> None:
    reading = PostgresReading(0.0, "db:5432", SERVER, (), (), None, None)
    assert summary.postgres(Seen(None, reading, since=10.0), "?", 0, now=11.0).is_up
    frozen = summary.postgres(Seen(None, reading, since=10.0), "?", 0, now=14.0)
    assert (frozen.is_up, frozen.reason) == (False, "no answer for 4 s")
    assert summary.postgres(Seen(since=10.0), "?", 0, now=10.4).reason == "no answer for 0 s"


def test_each_waiting_session_is_below_what_blocks_it() -> None:
    sessions = [
        session(1),
        # 3 waits for 1, and behind 2 in the queue. 4 waits for a prepared transaction.
        session(2, blocked_by=(1,), lock_seconds=9.0),
        session(3, blocked_by=(1, 2), lock_seconds=5.0),
        session(4, blocked_by=(0,), lock_seconds=1.0),
        session(5),
    ]
    found = [(depth, pid) for depth, pid, _ in summary.lock_tree(sessions)]
    assert found == [(0, 0), (1, 4), (0, 1), (1, 2), (2, 3)]


def test_a_queue_for_a_row_may_be_longer_than_the_stack_of_python() -> None:
    queue = [session(pid, blocked_by=tuple(range(1, pid)), lock_seconds=1e6 - pid) for pid in range(1, 1200)]
    assert [(depth, pid) for depth, pid, _ in summary.lock_tree(queue)] == [
        (pid - 1, pid) for pid in range(1, 1200)
    ]


def test_a_deadlock_is_shown_although_nobody_is_its_root() -> None:
    found = summary.lock_tree([session(1, blocked_by=(2,)), session(2, blocked_by=(1,))])
    assert [(depth, pid) for depth, pid, _ in found] == [(0, 1), (1, 2)]


def test_missing_replicas_have_their_names() -> None:
    names = {"localhost:1": "redis", "localhost:2": "redis-2", "localhost:3": "redis-3"}
    replica = {"ip": "172.18.0.40", "port": 6379, "state": "online", "offset": 90, "lag": 1}
    info = INFO | {"connected_slaves": 1, "slave0": replica, "master_repl_offset": 100}
    cache = summary.redis(Seen(None, RedisReading(0.0, "localhost:2", info)), "?", 2, 0.0, names)
    assert ([each.name for each in cache.replicas], cache.missing) == (["redis"], ("redis-3",))
    names = {"localhost:1": "postgres", "localhost:2": "postgres-2", "localhost:3": "postgres-3"}
    reading = PostgresReading(0.0, "localhost:3", SERVER, (), (), None, None)
    database = summary.postgres(Seen(None, reading), "?", 2, 0.0, names)
    assert database.missing == ("postgres", "postgres-2")


def test_servers_of_redis_are_known_by_their_addresses_in_any_subnet() -> None:
    addresses = ["10.1.2.40", "192.168.7.169", "10.1.2.42", "10.1.2.43"]
    assert list(map(server_at, addresses)) == ["redis", "redis-2", "redis-3", "10.1.2.43"]
