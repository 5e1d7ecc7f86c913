# Generated from db/_async/partitions.py by scripts/generate_sync.py; edit that, not this.
"""The monthly partitions that a bulk load needs: made where they are missing, and no other."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from psycopg.rows import scalar_row

from db._sync.pool import Pool
from db.errors import Unavailable
from db.named_query import queries
from db.validation import Month

_QUERIES = queries("activities")


class Partitions:
    """Partitions for one load. A month that was there once is not looked for again.

    To make one locks users and repositories against writers until it is committed. So none is made in the load's
    transaction: where that is open already, another connection of the pool makes it. A transaction that was open before
    this object was made is its caller's. It may have written users itself, and another connection would wait for
    it while it waits for that one: there the partition is made in it, and the lock is its owner's to keep short.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: set[Month] = set()
        self._is_callers = pool.in_transaction()

    def make_missing(self, months: Iterable[Month]) -> None:
        """Make the partitions of those of these months that have none.

        Raises Unavailable where it takes a second connection and the pool has none to give.
        """
        new = sorted(set(months) - self._known)
        if not new:
            return
        starts = [datetime(year, month, 1, tzinfo=UTC) for year, month in new]
        absent = self._pool.fetch_all(_QUERIES["find_absent_months"], {"months": starts}, scalar_row)
        for start in absent:
            self._make(start)
        self._known.update(new)

    def _make(self, start: datetime) -> None:
        parameters = {"since": start, "until": start}
        if self._pool.in_transaction() and not self._is_callers:
            self._make_beside(start, parameters)
        else:
            self._pool.fetch_all(_QUERIES["make_partitions"], parameters, scalar_row)

    def _make_beside(self, start: datetime, parameters: dict[str, datetime]) -> None:
        if self._pool.settings.pool_size < 2:
            raise Unavailable(
                f"the partition of {start:%Y-%m} takes a second connection in the middle of a load, and pool"
                f" {self._pool.name} has one; call make_partitions before the load, or let the pool have two"
            )
        query, deadline = _QUERIES["make_partitions"], self._pool.deadline()
        # As in a transaction: nothing of the load stays, whatever has become of the partition.
        with self._pool.call(query, deadline, in_transaction=True):
            with self._pool.connection(deadline) as connection:
                connection.execute(query.sql, parameters, prepare=False)
