"""The bounds of batches do not change what an import stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from db.errors import ConnectionLost
from ops.gharchive.event import Event, Party
from ops.gharchive.loader import Loader, Prepared
from ops.gharchive.worker import open_pool
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


LOSSES = 2
TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename LIKE 'app%'"
    " AND datname = current_database() AND state = 'idle in transaction'"
)
MOST_BATCHES = 4
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
def loaders(database: Database) -> Iterator[list[Loader]]:
    with ExitStack() as stack:
        pools = [open_pool(database.url("app")) for _ in range(MOST_BATCHES)]
        for pool in pools:
            stack.callback(pool.close)
        yield [Loader(pool) for pool in pools]


@pytest.fixture
def loader(loaders: list[Loader]) -> Loader:
    return loaders[0]


def _loaded(database: Database, loader: Loader, *batches: list[Event]) -> list[str]:
    _empty(database)
    for batch in filter(None, batches):
        loader.load(batch)
    return _rows(database)


def _loaded_side_by_side(database: Database, loaders: list[Loader], batches: list[list[Event]]) -> list[str]:
    """Load batches like the processes of `--jobs`: each stores its events before any earlier one is loaded."""
    _empty(database)
    waiting: list[tuple[Loader, Prepared]] = []

    def load_waiting() -> bool:
        """Load what waits, the latest batch last, and return whether any of them changed a party."""
        if not waiting:
            return False
        loader, prepared = waiting.pop()
        earlier = False

        def wait() -> bool:
            nonlocal earlier
            earlier = load_waiting()
            return earlier

        return loader.load_prepared(prepared, wait=wait) or earlier

    ids: set[int] = set()
    for loader, batch in zip(loaders, batches, strict=False):
        new = {event.github_event_id for event in batch}
        if not ids.isdisjoint(new):
            # A batch with an event of an earlier one waits until that one is loaded.
            load_waiting()
            ids = set()
        waiting.append((loader, loader.prepare(batch)))
        ids |= new
    load_waiting()
    return _rows(database)


def _rows(database: Database) -> list[str]:
    # In one call, because each starts a session.
    return database.psql(" SELECT '--';".join(f"{query};" for query in ROWS)).split("--\n")


def _empty(database: Database) -> None:
    database.psql(
        "TRUNCATE groundwork.activities, groundwork.repositories, groundwork.organizations, groundwork.users CASCADE"
    )


@promise("the bounds of batches do not change what an import stores")
@settings(
    max_examples=scaled(15, 500),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=EVENTS, cuts=st.sets(st.integers(1, 7), max_size=MOST_BATCHES - 1))
def test_any_split_of_the_same_lines_gives_the_same_rows(
    database: Database, loaders: list[Loader], events: list[Event], cuts: set[int]
) -> None:
    loader = loaders[0]
    bounds = [0, *sorted(cuts), len(events)]
    batches = [events[start:end] for start, end in pairwise(bounds)]
    whole = _loaded(database, loader, events)
    assert _loaded(database, loader, *batches) == whole
    assert _loaded_side_by_side(database, loaders, batches) == whole
    assert _loaded(database, loader, *([each] for each in events)) == whole


def test_a_transfer_to_a_person_leaves_the_organization(database: Database, loader: Loader) -> None:
    first = _event(1, 1, 1, "org", 1, 1, 0)
    second = _event(2, 2, 1, "me", 1, None, 0)
    _loaded(database, loader, [first], [second])
    row = database.psql("SELECT name, org_id IS NULL FROM groundwork.repositories")
    assert row.strip() == "me/repo1-0|t"


@promise("any number of jobs stores the same rows")
def test_changes_of_one_party_in_batches_side_by_side_are_made_in_order(
    database: Database, loaders: list[Loader]
) -> None:
    """The names of users and repositories follow the events' times, and organizations the order of the lines."""
    batches = [
        [_event(1, 1, 1, "org", 1, 1, 0), _event(2, 1, 2, "org", 1, 1, 0), _event(7, 0, 1, "org", 2, 1, 0)],
        # Repository 2 moves to another organization, which the next event does not mention.
        [
            _event(3, 3, 1, "me", 1, None, 1),
            _event(8, 1, 2, "org", 2, 2, 0),
            _event(9, 3, 2, "org", 2, None, 0),
        ],
        [_event(4, 2, 1, "org", 1, 1, 1), _event(5, 3, 2, "me", 1, None, 0)],
        [_event(6, 0, 1, "org", 2, 1, 0)],
    ]
    whole = _loaded(database, loaders[0], *batches)
    assert _loaded_side_by_side(database, loaders, batches) == whole
    assert whole[0].split() == ["1|user1-1", "2|user2-0"]
    assert whole[1].split() == ["1|org1-0", "2|org2-0"]
    assert whole[2].split() == ["1|me/repo1-0|", "2|org/repo2-0|2"]


@promise("an import survives a lost connection")
def test_a_batch_is_loaded_again_if_its_connection_is_lost(
    database: Database, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [_event(number, 1, 1, "a", 1, None, 0) for number in (1, 2, 3)]
    copy = Loader._copy
    losses: list[str] = []

    def lose_first(self: Loader, prepared: Prepared) -> None:
        if len(losses) < LOSSES:
            losses.append(database.psql(TERMINATE))
        copy(self, prepared)

    monkeypatch.setattr(Loader, "_copy", lose_first)
    assert loader.load(events) == len(events)
    assert len(losses) == LOSSES
    assert [line.split("|")[0] for line in _rows(database)[3].split()[::2]] == ["1", "2", "3"]


def test_a_batch_that_loses_every_connection_is_an_error(
    database: Database, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Loader._copy

    def lose(self: Loader, prepared: Prepared) -> None:
        database.psql(TERMINATE)
        copy(self, prepared)

    monkeypatch.setattr(Loader, "_copy", lose)
    with pytest.raises(ConnectionLost):
        loader.load([_event(1, 1, 1, "a", 1, None, 0)])
    assert database.psql("SELECT count(*) FROM groundwork.activities").strip() == "0"


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
