"""Load events into Postgres, one transaction per batch: first the parties, then new activities with COPY."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg.rows import class_row, scalar_row

from db._sync.partitions import Partitions
from db._sync.pool import Pool
from db.copy_text import blocks
from db.errors import QueryFailed
from db.models import NewActivity
from db.named_query import queries
from db.rows import GithubId
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
                    return self._load({(e.github_event_id, e.timestamp): e for e in events})
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
        new = [event for event in events.values() if event.github_event_id not in known]
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
        for block in blocks(rows, None):
            self._pool.copy(_ACTIVITIES["copy_activities"], block.data)
        return len(new)

    def _make_parties(self, events: Sequence[Event]) -> None:
        # If a party has several names, the latest one wins.
        in_time = sorted(events, key=lambda event: event.timestamp)
        users = {event.actor.github_id: (event.actor, event.timestamp) for event in in_time}
        organizations = {event.org.github_id: event.org for event in in_time if event.org}
        repositories = {event.repo.github_id: (event.repo, event) for event in in_time if event.repo}
        if organizations:
            self._write("import_organizations", _columns(organizations.values()))
        named = _columns(party for party, _ in users.values())
        seen: list[object] = [at for _, at in users.values()]
        self._write("import_users", named)
        self._write("rename_users", named | {"seen_at": seen})
        if repositories:
            named = _columns(party for party, _ in repositories.values())
            named["org_github_ids"] = [
                event.org.github_id if event.org else None for _, event in repositories.values()
            ]
            self._write("import_repositories", named)
            seen = [event.timestamp for _, event in repositories.values()]
            self._write("rename_repositories", named | {"seen_at": seen})

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
