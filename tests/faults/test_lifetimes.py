"""How long entries live: each tier's within its jitter, spread over it, and read again once they are over."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cache.ttl import JITTER, Tier
from db.models import NewOrganization, NewRepository, NewUser
from tests.conftest import Database
from tests.scale import scaled

RECORDS = scaled(100, 1000)
# Between reading an entry's time and its being set.
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
    """The seconds that are left to each entry of this test."""
    keys = list(redis_as_ops.scan_iter(f"gw:{namespace}:*{{*}}*", count=1000))
    return sorted(redis_as_ops.pttl(key) / 1000 for key in keys)


def is_spread(left: list[float], tier: Tier) -> bool:
    """Whether they use at least half of the jitter, so that they do not end together."""
    return left[-1] - left[0] > tier * JITTER


@pytest.mark.parametrize("plural", KINDS)
def test_entries_of_a_tier_live_as_long_as_it_says(
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


def test_a_fixed_life_is_not_spread(redis_as_ops: Any, namespace: str) -> None:
    """The negative control: what is written together ends together."""
    for n in range(RECORDS):
        redis_as_ops.set(f"gw:{namespace}:naive:{{{n}}}", "x", ex=int(Tier.LONG))
    assert not is_spread(lives(redis_as_ops, namespace), Tier.LONG)


@pytest.mark.parametrize("plural", KINDS)
def test_what_has_expired_is_fetched_again(
    data: Any, redis_as_ops: Any, namespace: str, database: Database, plural: str
) -> None:
    _, make = KINDS[plural]
    repository = getattr(data, plural)
    record = repository.get(repository.add(make(1)).id)
    database.psql(f"UPDATE groundwork.{plural} SET github_id = 2")
    # It is served until its life is over, and not longer.
    assert repository.get(record.id) == record
    (key,) = redis_as_ops.scan_iter(f"gw:{namespace}:*{{{record.id}}}", count=1000)
    redis_as_ops.set(key, redis_as_ops.get(key), px=100)
    time.sleep(0.3)
    assert repository.get(record.id).github_id == 2
