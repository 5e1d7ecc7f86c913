"""Lifetimes of cache entries: within the jitter of their tier and spread over it, and read again after expiry."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cache.timing import JITTER, Tier
from db.models import NewOrganization, NewRepository, NewUser
from tests.conftest import Database
from tests.promises import promise
from tests.scale import scaled

RECORDS = scaled(100, 1000)
# The time between storing an entry and reading its lifetime.
SLACK_SECONDS = 10
KINDS = {
    "users": (Tier.LONG, lambda n: NewUser(github_id=n, username=f"u{n}")),
    "organizations": (Tier.MEDIUM, lambda n: NewOrganization(github_id=n, name=f"o{n}")),
    "repositories": (Tier.MEDIUM, lambda n: NewRepository(github_id=n, name=f"o/r{n}")),
}


@pytest.fixture
def near_entries() -> int:
    return 0


def lives(redis_as_ops: Any, namespace: str) -> list[float]:
    """Return the seconds left for each entry of this test, sorted."""
    keys = list(redis_as_ops.scan_iter(f"gw:{namespace}:*{{*}}*", count=1000))
    return sorted(redis_as_ops.pttl(key) / 1000 for key in keys)


def is_spread(left: list[float], tier: Tier) -> bool:
    """Return whether the lifetimes differ by at least half of the jitter, so that entries do not expire together."""
    return left[-1] - left[0] > tier * JITTER


@promise("entries expire after the time to live of their tier")
@pytest.mark.parametrize("plural", KINDS)
def test_entries_expire_after_the_lifetime_of_their_tier(
    data: Any, redis_as_ops: Any, namespace: str, plural: str
) -> None:
    tier, make = KINDS[plural]
    repository = getattr(data, plural)
    ids = [repository.add(make(n)).id for n in range(1, RECORDS + 1)]
    repository.get_many(ids[: RECORDS // 2])
    for record_id in ids[RECORDS // 2 :]:
        repository.get(record_id)
    left = lives(redis_as_ops, namespace)
    assert len(left) == RECORDS
    assert tier * (1 - JITTER) - SLACK_SECONDS <= left[0]
    assert left[-1] <= tier * (1 + JITTER)
    assert is_spread(left, tier)


def test_absences_live_shortly(data: Any, redis_as_ops: Any, namespace: str) -> None:
    data.users.get_many(list(range(1_000_000, 1_000_000 + RECORDS)))
    left = lives(redis_as_ops, namespace)
    assert len(left) == RECORDS
    assert left[0] >= Tier.ABSENT * (1 - JITTER) - SLACK_SECONDS
    assert left[-1] <= Tier.ABSENT * (1 + JITTER)
    assert is_spread(left, Tier.ABSENT)


@promise("entries expire after the time to live of their tier", control=True)
def test_a_fixed_life_is_not_spread(redis_as_ops: Any, namespace: str) -> None:
    """The negative control: entries that are written together expire together."""
    for n in range(RECORDS):
        redis_as_ops.set(f"gw:{namespace}:naive:{{{n}}}", "x", ex=int(Tier.LONG))
    assert not is_spread(lives(redis_as_ops, namespace), Tier.LONG)


@pytest.mark.parametrize("plural", KINDS)
def test_an_expired_record_is_read_again(
    data: Any, redis_as_ops: Any, namespace: str, database: Database, plural: str
) -> None:
    _, make = KINDS[plural]
    repository = getattr(data, plural)
    record = repository.get(repository.add(make(1)).id)
    database.psql(f"UPDATE groundwork.{plural} SET github_id = 2")
    # The cached record is served until it expires, and not longer.
    assert repository.get(record.id) == record
    (key,) = redis_as_ops.scan_iter(f"gw:{namespace}:*{{{record.id}}}", count=1000)
    redis_as_ops.set(key, redis_as_ops.get(key), px=100)
    time.sleep(0.3)
    assert repository.get(record.id).github_id == 2
