"""Load events into Postgres, one transaction per batch: first the parties, then new activities with COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from psycopg.rows import class_row, scalar_row

from db._sync.partitions import Partitions
from db._sync.pool import Pool
from db.copy_binary import copy_data, row
from db.errors import QueryFailed
from db.named_query import queries
from db.rows import KnownParty, KnownRepository, RepositoryState
from ops.gharchive.event import Event

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
        # The parties are stored as if the events were loaded one by one, so that the bounds of batches do not matter.
        self._store_organizations(new)
        users = self._store_users(new)
        repositories = self._store_repositories(new)
        rows = (
            row(
                event.github_event_id,
                users[event.actor.github_id],
                repositories[event.repo.github_id] if event.repo else None,
                event.type,
                event.timestamp,
                event.data,
            )
            for event in new
        )
        # One statement, because each writes one outbox entry per feed.
        with self._pool.copying(_ACTIVITIES["copy_activities"], copy_data(rows)):
            pass
        return len(new)

    def _store_organizations(self, events: Sequence[Event]) -> None:
        names = {event.org.github_id: event.org.name for event in events if event.org}
        if not names:
            return
        known = {each.github_id: each.name for each in self._parties("find_known_organizations", names)}
        changed = {github_id: name for github_id, name in names.items() if known.get(github_id) != name}
        if changed:
            self._write("import_organizations", _columns(changed))

    def _store_users(self, events: Sequence[Event]) -> dict[int, int]:
        """Insert and rename users, and return our ids by GitHub's."""
        # If a user has several names, the latest one wins.
        in_time = sorted(events, key=lambda event: event.timestamp)
        names = {event.actor.github_id: event.actor.name for event in in_time}
        known = self._parties("find_known_users", names)
        missing = names.keys() - {user.github_id for user in known}
        if missing:
            self._write("import_users", _columns({each: names[each] for each in missing}))
            known += self._parties("find_known_users", missing)
        renamed = {
            user.github_id: names[user.github_id] for user in known if user.name != names[user.github_id]
        }
        if renamed:
            seen_at = {event.actor.github_id: event.timestamp for event in in_time}
            self._write("rename_users", _columns(renamed) | {"seen_at": [seen_at[each] for each in renamed]})
        return {user.github_id: user.id for user in known}

    def _store_repositories(self, events: Sequence[Event]) -> dict[int, int]:
        """Insert and update repositories, and return our ids by GitHub's."""
        of: dict[int, list[Event]] = {}
        for event in events:
            if event.repo:
                of.setdefault(event.repo.github_id, []).append(event)
        if not of:
            return {}
        known = self._repositories(of)
        missing = of.keys() - {repository.github_id for repository in known}
        if missing:
            new = [repository_after(None, of[each]) for each in missing]
            self._write("import_repositories", _repository_columns(new))
            known += self._repositories(missing)
        changed = [
            each.github_id for each in known if any(_differs(event, each) for event in of[each.github_id])
        ]
        if changed:
            before = self._pool.fetch_all(
                _QUERIES["lock_repository_states"], {"github_ids": changed}, class_row(RepositoryState)
            )
            after = [repository_after(state, of[state.github_id]) for state in before]
            self._write("update_repositories", _repository_columns(after))
        return {repository.github_id: repository.id for repository in known}

    def _parties(self, query: str, github_ids: Iterable[int]) -> list[KnownParty]:
        return self._pool.fetch_all(_QUERIES[query], {"github_ids": [*github_ids]}, class_row(KnownParty))

    def _repositories(self, github_ids: Iterable[int]) -> list[KnownRepository]:
        query = _QUERIES["find_known_repositories"]
        return self._pool.fetch_all(query, {"github_ids": [*github_ids]}, class_row(KnownRepository))

    def _write(self, query: str, parameters: dict[str, list[object]]) -> None:
        self._pool.fetch_all(_QUERIES[query], parameters, scalar_row)


def _columns(names: dict[int, str]) -> dict[str, list[object]]:
    return {"github_ids": [*names], "names": [*names.values()]}


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


def _differs(event: Event, state: KnownRepository) -> bool:
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
