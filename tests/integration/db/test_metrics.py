"""Two data accesses in one process: its metrics include both, and the remaining one after the other is closed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from prometheus_client import REGISTRY

from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise


def pool_metric(name: str) -> float:
    return REGISTRY.get_sample_value(f"groundwork_db_{name}", {"pool": "groundwork"}) or 0.0


def breaker_metric() -> float | None:
    return REGISTRY.get_sample_value("groundwork_cache_breaker_open")


def near_metric(name: str) -> float:
    return REGISTRY.get_sample_value(f"groundwork_cache_near_{name}") or 0.0


@promise("metrics of several DataAccess objects in one process are summed")
def test_pools_of_one_name_are_summed(open_data: Any, flavour: str, database: Database) -> None:
    open_before = pool_metric("pool_max")
    open_data(pool_size=3)
    assert pool_metric("pool_max") == open_before + 3
    nobody = cache_settings("redis://app:x@localhost:1/0", "nobody")
    with data_access(flavour, database_settings(database.url("app"), pool_size=5), nobody) as another:
        assert pool_metric("pool_max") == open_before + 8
        asked = pool_metric("pool_requests_total")
        another.users.add(NewUser(github_id=7, username="ada"))
        asked_since = pool_metric("pool_requests_total")
        assert asked_since > asked
    assert pool_metric("pool_max") == open_before + 3
    # Prometheus takes a decreasing counter for a restart of the process.
    assert pool_metric("pool_requests_total") >= asked_since


def test_the_breaker_metric_is_open_while_one_of_them_is_open(
    open_data: Any, flavour: str, database: Database
) -> None:
    nobody = cache_settings("redis://app:x@localhost:1/0", "nobody")
    with ExitStack() as stack:
        ill = stack.enter_context(data_access(flavour, database_settings(database.url("app")), nobody))
        wait_until(lambda: bool(ill.cache.breaker.is_open), 60)
        well = open_data()
        well.cache.ping()
        assert not well.cache.breaker.is_open
        assert breaker_metric() == 1
        stack.pop_all().close()
    assert breaker_metric() == 0


@promise("metrics of several DataAccess objects in one process are summed")
def test_near_caches_are_summed(
    open_data: Any, flavour: str, database: Database, redis_server: Server, namespace: str
) -> None:
    before = near_metric("entries"), near_metric("bytes")
    cache = cache_settings(redis_server.redis_url("app"), namespace)
    first = open_data()
    ids = [first.users.add(NewUser(github_id=n, username=f"user{n}")).id for n in (1, 2, 3)]

    def are_summed(held: list[tuple[Any, int]]) -> bool:
        # Entries are stored after tracking has started. The fill's own invalidation may arrive late and remove them.
        for data, count in held:
            data.users.get_many(ids[:count])
        sizes = [data.cache.near.size() for data, _ in held]
        metrics = near_metric("entries") - before[0], near_metric("bytes") - before[1]
        return [entries for entries, _ in sizes] == [count for _, count in held] and metrics == (
            sum(entries for entries, _ in sizes),
            sum(size for _, size in sizes),
        )

    with data_access(flavour, database_settings(database.url("app")), cache) as second:
        wait_until(lambda: are_summed([(first, 3), (second, 2)]), 60)
    wait_until(lambda: are_summed([(first, 3)]), 60)
