"""Load events into Postgres, one transaction per batch: first the parties, then new activities with COPY."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from db._sync.partitions import Partitions
from db._sync.pool import Pool
from db.copy_binary import copy_data, row
from db.errors import ConnectionLost, QueryFailed
from db.named_query import queries
from db.rows import KnownEvent
from ops.gharchive.event import Event
from ops.gharchive.parties import KnownParties, Mentions, Parties

_QUERIES = queries("gharchive")
_ACTIVITIES = queries("activities")
# A deadlock, or a row that another import wrote first. Neither recurs when the batch is tried again.
_TRY_AGAIN = {"40P01", "40001", "23505", "23503"}
_ATTEMPTS = 5


class Prepared(NamedTuple):
    """New events, and their users, organizations and repositories, which are stored."""

    events: Sequence[Event]
    mentions: Mentions
    known: KnownParties


class Loader:
    """Loads batches with one connection. Loading a batch again adds nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._partitions = Partitions(pool)
        self._parties = Parties(pool)

    def load(self, events: Sequence[Event]) -> int:
        """Store all events or none. Return how many were new. Raise QueryFailed if the server rejects one.

        A batch whose connection was lost before its COMMIT is loaded again. Raise OutcomeUnknown if it was lost later.
        """
        self._make_partitions(events)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._pool.transaction():
                    prepared = self._insert_parties(events)
                    if prepared.events:
                        self._parties.update(prepared.mentions, prepared.known)
                        self._copy(prepared)
                    return len(prepared.events)
            except (QueryFailed, ConnectionLost) as error:
                recurs = isinstance(error, QueryFailed) and error.sqlstate not in _TRY_AGAIN
                if recurs or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def prepare(self, events: Sequence[Event]) -> Prepared:
        """Insert missing parties in a transaction of their own. Earlier batches must be prepared, but not loaded."""
        self._make_partitions(events)
        with self._pool.transaction():
            return self._insert_parties(events)

    def load_prepared(self, prepared: Prepared, wait: Callable[[], bool]) -> bool:
        """Store the events, update their parties after `wait`, and return whether that changed any.

        `wait` returns when earlier batches are loaded, and says whether they have changed parties since `prepare`.
        """
        has_changes = False
        with self._pool.transaction():
            if prepared.events:
                self._copy(prepared)
            are_changed = wait()
            if prepared.events:
                mentions = prepared.mentions
                known = self._parties.find(mentions) if are_changed else prepared.known
                has_changes = self._parties.update(mentions, known)
        return has_changes

    def _insert_parties(self, events: Sequence[Event]) -> Prepared:
        new = self._new(events)
        mentions = Mentions(new)
        return Prepared(
            new, mentions, self._parties.insert_missing(mentions) if new else KnownParties([], [], [])
        )

    def _make_partitions(self, events: Sequence[Event]) -> None:
        # Not in the transaction: creating a partition blocks writes to users until the commit.
        self._partitions.make_missing({(event.timestamp.year, event.timestamp.month) for event in events})

    def _new(self, events: Sequence[Event]) -> list[Event]:
        """Return the events that are not stored. Of several events with the same key, the first one counts."""
        unique: dict[tuple[int | None, datetime], Event] = {}
        for event in events:
            unique.setdefault((event.github_event_id, event.timestamp), event)
        if not unique:
            return []
        times = [at for _, at in unique]
        parameters = {"ids": [event_id for event_id, _ in unique], "first": min(times), "last": max(times)}
        for known in self._pool.fetch_all(_QUERIES["find_known_events"], parameters, class_row(KnownEvent)):
            unique.pop((known.github_event_id, known.timestamp), None)
        return [*unique.values()]

    def _copy(self, prepared: Prepared) -> None:
        users = {user.github_id: user.id for user in prepared.known.users}
        repositories = {repository.github_id: repository.id for repository in prepared.known.repositories}
        rows = (
            row(
                event.github_event_id,
                users[event.actor.github_id],
                repositories[event.repo.github_id] if event.repo else None,
                event.type,
                event.timestamp,
                event.data,
            )
            for event in prepared.events
        )
        # One statement, because each statement writes one outbox entry per feed.
        with self._pool.copying(_ACTIVITIES["copy_activities"], copy_data(rows)):
            pass
