"""Statistics of pools that share a name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from db.metrics import PoolStatistics


class Pool:
    """A pool, reduced to what is measured."""

    def __init__(self, name: str, size: int, asked: int) -> None:
        self.name = name
        self._statistics = {"pool_size": size, "requests_num": asked}

    def statistics(self) -> dict[str, int]:
        return self._statistics


def _reported(statistics: PoolStatistics, name: str = "one") -> tuple[float | None, float | None]:
    """Return the current connections, and the total of requested ones."""
    registry = CollectorRegistry()
    registry.register(statistics)
    labels = {"pool": name}
    return (
        registry.get_sample_value("groundwork_db_pool_size", labels),
        registry.get_sample_value("groundwork_db_pool_requests_total", labels),
    )


def test_pools_with_one_name_are_summed_and_others_are_separate() -> None:
    statistics = PoolStatistics()
    for pool in (Pool("one", 2, 10), Pool("one", 3, 20), Pool("other", 4, 40)):
        statistics.add(pool)
    assert _reported(statistics) == (5, 30)
    assert _reported(statistics, "other") == (4, 40)


def test_a_closed_pool_keeps_its_counters() -> None:
    statistics = PoolStatistics()
    closed, left = Pool("one", 2, 10), Pool("one", 3, 20)
    statistics.add(closed)
    statistics.add(left)
    for _ in range(2):
        statistics.remove(closed)
    assert _reported(statistics) == (3, 30)
    statistics.remove(left)
    assert _reported(statistics) == (None, 30)


def test_a_pool_that_was_never_opened_may_be_closed() -> None:
    statistics = PoolStatistics()
    statistics.remove(Pool("one", 2, 10))
    assert _reported(statistics) == (None, None)
