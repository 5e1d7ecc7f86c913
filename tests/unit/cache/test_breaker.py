"""The circuit breaker's state, and its pending invalidations."""

from __future__ import annotations

from cache.breaker import Breaker


def test_it_opens_once_and_reports_it() -> None:
    breaker = Breaker("everything")
    assert breaker.is_open is False
    assert [breaker.trip(), breaker.trip()] == [True, False]
    assert breaker.is_open is True


def test_it_closes_if_no_invalidation_is_pending() -> None:
    breaker = Breaker("everything")
    breaker.trip()
    assert breaker.settle([]) is True
    assert breaker.is_open is False


def test_a_failed_invalidation_keeps_it_open_until_it_is_delivered() -> None:
    breaker = Breaker("everything")
    breaker.owe("v1", "l1")
    breaker.owe("v1", "l1")
    assert breaker.is_open is True
    owed = breaker.owed()
    assert owed == [("v1", "l1")]
    # Another invalidation fails while these are delivered.
    breaker.owe("v2", "l2")
    assert breaker.settle(owed) is False
    assert breaker.is_open is True
    assert breaker.settle(breaker.owed()) is True


def test_an_invalidation_that_fails_again_during_its_delivery_stays_pending() -> None:
    """Another process may have cached the older value after the first delivery."""
    breaker = Breaker("everything")
    breaker.owe("v1", "l1")
    owed = breaker.owed()
    breaker.owe("v1", "l1")
    assert breaker.settle(owed) is False
    assert breaker.owed() == [("v1", "l1")]


def test_too_many_pending_invalidations_become_one_of_everything() -> None:
    breaker = Breaker("everything")
    for n in range(Breaker.MAX_OWED):
        breaker.owe(f"v{n}", f"l{n}")
    assert len(breaker.owed()) == Breaker.MAX_OWED
    breaker.owe("one", "too many")
    assert breaker.owed() == [("everything", "everything")]
    breaker.owe("v1", "l1")
    assert breaker.owed() == [("everything", "everything"), ("v1", "l1")]
