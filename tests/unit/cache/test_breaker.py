"""The breaker's state, and the invalidations it owes."""

from __future__ import annotations

from cache.breaker import Breaker


def test_it_opens_once_and_says_so() -> None:
    breaker = Breaker("everything")
    assert breaker.is_open is False
    assert [breaker.trip(), breaker.trip()] == [True, False]
    assert breaker.is_open is True


def test_it_closes_when_nothing_is_owed() -> None:
    breaker = Breaker("everything")
    breaker.trip()
    assert breaker.settle([]) is True
    assert breaker.is_open is False


def test_an_invalidation_that_failed_opens_it_until_it_is_delivered() -> None:
    breaker = Breaker("everything")
    breaker.owe("v1", "l1")
    breaker.owe("v1", "l1")
    assert breaker.is_open is True
    owed = breaker.owed()
    assert owed == [("v1", "l1")]
    # Another one came while these were delivered.
    breaker.owe("v2", "l2")
    assert breaker.settle(owed) is False
    assert breaker.is_open is True
    assert breaker.settle(breaker.owed()) is True


def test_an_invalidation_owed_anew_during_its_delivery_is_still_owed() -> None:
    """Another process may have cached the older value after the first was delivered."""
    breaker = Breaker("everything")
    breaker.owe("v1", "l1")
    owed = breaker.owed()
    breaker.owe("v1", "l1")
    assert breaker.settle(owed) is False
    assert breaker.owed() == [("v1", "l1")]


def test_of_too_many_none_is_lost_for_everything_is_forgotten_instead() -> None:
    breaker = Breaker("everything")
    for n in range(Breaker.MAX_OWED):
        breaker.owe(f"v{n}", f"l{n}")
    assert len(breaker.owed()) == Breaker.MAX_OWED
    breaker.owe("one", "too many")
    assert breaker.owed() == [("everything", "everything")]
    breaker.owe("v1", "l1")
    assert breaker.owed() == [("everything", "everything"), ("v1", "l1")]
