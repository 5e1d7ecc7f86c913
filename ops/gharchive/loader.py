"""Load events into Postgres, one transaction per batch: first the parties, then new activities with COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from psycopg.rows import class_row, scalar_row

from db._sync.partitions import Partitions
from db._sync.pool import Pool
from db.copy_binary import blocks
from db.errors import QueryFailed
from db.models import NewActivity
from db.named_query import queries
from db.rows import GithubId, RepositoryState
from ops.gharchive.event import Event, Party

_QUERIES = queries("gharchive")
_ACTIVITIES = queries("activities")
# A deadlock, or a row that another import wrote first. Neither recurs when the batch is tried again.
_TRY_AGAIN = {"40P01", "40001", "23505", "23503"}
_ATTEMPTS = 5


class Loader:
    """Loads batches with one connection. Loading a batch again adds nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._partitions = Partitions(pool)

    def load(self, events: Sequence[Event]) -> int:
        """Store all events or none. Return how many were new. Raise QueryFailed if the server rejects one."""
        # Not in the transaction: creating a partition blocks writes to users until the commit.
        self._partitions.make_missing({(event.timestamp.year, event.timestamp.month) for event in events})
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._pool.transaction():
                    return self._load(_first_of_each(events))
            except QueryFailed as error:
                if error.sqlstate not in _TRY_AGAIN or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _load(self, events: dict[tuple[int, datetime], Event]) -> int:
        times = [at for _, at in events]
        parameters = {
            "ids": [event_id for event_id, _ in events],
            "timestamps": times,
            "first": min(times),
            "last": max(times),
        }
        known = set(self._pool.fetch_all(_QUERIES["find_known_events"], parameters, scalar_row))
        new = [event for position, event in enumerate(events.values(), 1) if position not in known]
        if not new:
            return 0
        self._make_parties(new)
        users = self._ids("find_user_ids", {event.actor.github_id for event in new})
        repositories = self._ids("find_repository_ids", {event.repo.github_id for event in new if event.repo})
        rows = (
            NewActivity(
                user_id=users[event.actor.github_id],
                repo_id=repositories[event.repo.github_id] if event.repo else None,
                type=event.type,
                timestamp=event.timestamp,
                github_event_id=event.github_event_id,
                data=event.data,
            )
            for event in new
        )
        source = blocks(rows, None)
        block = next(source, None)
        while block is not None:
            with self._pool.copying(_ACTIVITIES["copy_activities"], block.data):
                block = next(source, None)
        return len(new)

    def _make_parties(self, events: Sequence[Event]) -> None:
        """Store the parties as if the events were loaded one by one, so that the bounds of batches do not matter."""
        organizations = {event.org.github_id: event.org for event in events if event.org}
        if organizations:
            self._write("import_organizations", _columns(organizations.values()))
        # If a user has several names, the latest one wins.
        in_time = sorted(events, key=lambda event: event.timestamp)
        users = {event.actor.github_id: (event.actor, event.timestamp) for event in in_time}
        named = _columns(party for party, _ in users.values())
        self._write("import_users", named)
        self._write("rename_users", named | {"seen_at": [at for _, at in users.values()]})
        by_repository: dict[int, list[Event]] = {}
        for event in events:
            if event.repo:
                by_repository.setdefault(event.repo.github_id, []).append(event)
        if by_repository:
            self._make_repositories(by_repository)

    def _make_repositories(self, events: dict[int, list[Event]]) -> None:
        new = [repository_after(None, each) for each in events.values()]
        self._write("import_repositories", _repository_columns(new))
        changed = {
            state.github_id
            for state in self._states("find_repository_states", events)
            if any(_differs(event, state) for event in events[state.github_id])
        }
        if changed:
            before = self._states("lock_repository_states", changed)
            after = [repository_after(state, events[state.github_id]) for state in before]
            self._write("update_repositories", _repository_columns(after))

    def _states(self, query: str, github_ids: Iterable[int]) -> list[RepositoryState]:
        return self._pool.fetch_all(
            _QUERIES[query], {"github_ids": [*github_ids]}, class_row(RepositoryState)
        )

    def _write(self, query: str, parameters: dict[str, list[object]]) -> None:
        self._pool.fetch_all(_QUERIES[query], parameters, scalar_row)

    def _ids(self, query: str, github_ids: set[int]) -> dict[int, int]:
        found = self._pool.fetch_all(_QUERIES[query], {"github_ids": [*github_ids]}, class_row(GithubId))
        return {row.github_id: row.id for row in found}


def _columns(parties: object) -> dict[str, list[object]]:
    by_id: dict[str, list[object]] = {"github_ids": [], "names": []}
    for party in parties:  # type: ignore[attr-defined]
        assert isinstance(party, Party)
        by_id["github_ids"].append(party.github_id)
        by_id["names"].append(party.name)
    return by_id


def repository_after(state: RepositoryState | None, events: Sequence[Event]) -> RepositoryState:
    """Return the state of a repository after its events, one by one. `state` is None if it is not stored.

    An event without an organization does not say that there is none: the organization stays as long as the owner in the
    name does. An older event changes nothing, but its organization is taken if none is known for this owner.
    """
    for event in events:
        assert event.repo is not None
        github_id, name = event.repo.github_id, event.repo.name
        org = event.org.github_id if event.org else None
        if state is None:
            state = RepositoryState(github_id, name, org, event.timestamp)
        elif state.seen_at is not None and event.timestamp < state.seen_at:
            if state.org_github_id is None and _owner(name) == _owner(state.name):
                state = RepositoryState(github_id, state.name, org, state.seen_at)
        else:
            if org is None and _owner(name) == _owner(state.name):
                org = state.org_github_id
            state = RepositoryState(github_id, name, org, event.timestamp)
    assert state is not None
    return state


def _differs(event: Event, state: RepositoryState) -> bool:
    assert event.repo is not None
    return event.repo.name != state.name or (
        event.org is not None and event.org.github_id != state.org_github_id
    )


def _owner(name: str) -> str:
    """Return the owner in a repository's name, `owner/name`."""
    return name.partition("/")[0].lower()


def _first_of_each(events: Sequence[Event]) -> dict[tuple[int, datetime], Event]:
    """Return the events by id and time. The first one counts, as if the second one came in a later batch."""
    unique: dict[tuple[int, datetime], Event] = {}
    for event in events:
        unique.setdefault((event.github_event_id, event.timestamp), event)
    return unique


def _repository_columns(states: Sequence[RepositoryState]) -> dict[str, list[object]]:
    return {
        "github_ids": [state.github_id for state in states],
        "names": [state.name for state in states],
        "org_github_ids": [state.org_github_id for state in states],
    }
