"""The bounds of batches do not change what an import stores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from cache.url_source import UrlSource
from db._sync.pool import Pool
from db.errors import InvalidSetting
from db.settings import DatabaseSettings
from ops.gharchive.event import Event, Party
from ops.gharchive.loader import Loader
from tests.conftest import Database
from tests.promises import promise
from tests.scale import scaled

ROWS = (
    "SELECT github_id, username FROM groundwork.users ORDER BY 1",
    "SELECT github_id, name FROM groundwork.organizations ORDER BY 1",
    "SELECT r.github_id, r.name, o.github_id FROM groundwork.repositories AS r"
    " LEFT JOIN groundwork.organizations AS o ON o.id = org_id ORDER BY 1",
    "SELECT github_event_id, timestamp, type, u.github_id, r.github_id FROM groundwork.activities"
    " JOIN groundwork.users AS u ON u.id = user_id LEFT JOIN groundwork.repositories AS r ON r.id = repo_id"
    " ORDER BY 1, 2",
)


def _event(
    number: int, hour: int, actor: int, owner: str, repo: int | None, org: int | None, name: int
) -> Event:
    return Event(
        github_event_id=number,
        type=f"Type{name}",
        timestamp=datetime(2015, 1, 1, hour, tzinfo=UTC),
        actor=Party(actor, f"user{actor}-{name}"),
        repo=Party(repo, f"{owner}/repo{repo}-{name}") if repo else None,
        org=Party(org, f"org{org}-{name}") if org else None,
        data=b"{}",
    )


EVENTS = st.lists(
    st.builds(
        _event,
        st.integers(1, 6),
        st.integers(0, 3),
        st.integers(1, 2),
        st.sampled_from(["a", "b"]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, 1, 2]),
        st.integers(0, 1),
    ),
    min_size=2,
    max_size=8,
)


@pytest.fixture
def loader(database: Database) -> Iterator[Loader]:
    source = UrlSource("DATABASE_URL", InvalidSetting, database.url("app"))
    pool = Pool(DatabaseSettings(source, pool_size=1), name="import")
    pool.open()
    yield Loader(pool)
    pool.close()


def _loaded(database: Database, loader: Loader, *batches: list[Event]) -> list[str]:
    database.psql(
        "TRUNCATE groundwork.activities, groundwork.repositories, groundwork.organizations, groundwork.users CASCADE"
    )
    for batch in filter(None, batches):
        loader.load(batch)
    return [database.psql(query) for query in ROWS]


@promise("the bounds of batches do not change what an import stores")
@settings(
    max_examples=scaled(15, 500),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=EVENTS, cuts=st.sets(st.integers(1, 7), max_size=3))
def test_any_split_of_the_same_lines_gives_the_same_rows(
    database: Database, loader: Loader, events: list[Event], cuts: set[int]
) -> None:
    bounds = [0, *sorted(cuts), len(events)]
    batches = [events[start:end] for start, end in pairwise(bounds)]
    whole = _loaded(database, loader, events)
    assert _loaded(database, loader, *batches) == whole
    assert _loaded(database, loader, *([each] for each in events)) == whole


def test_a_transfer_to_a_person_leaves_the_organization(database: Database, loader: Loader) -> None:
    first = _event(1, 1, 1, "org", 1, 1, 0)
    second = _event(2, 2, 1, "me", 1, None, 0)
    _loaded(database, loader, [first], [second])
    row = database.psql("SELECT name, org_id IS NULL FROM groundwork.repositories")
    assert row.strip() == "me/repo1-0|t"


@promise("an import writes one outbox entry per feed and batch")
def test_a_large_batch_writes_one_outbox_entry_per_feed(database: Database, loader: Loader) -> None:
    large = b'{"payload":"%b"}' % (b"x" * 100_000)
    events = [structs.replace(_event(number, 1, 1, "a", 1, None, 0), data=large) for number in range(1, 40)]
    database.psql("TRUNCATE groundwork.cache_outbox")
    loader.load(events)
    query = (
        "SELECT entity, count(*) FROM groundwork.cache_outbox WHERE entity LIKE '%feed' GROUP BY 1 ORDER BY 1"
    )
    assert database.psql(query).split() == ["repository_feed|1", "user_feed|1"]
