# Generated from db/_async/partitions.py by scripts/generate_sync.py; edit that, not this.
"""Create the monthly partitions that a bulk load needs and that do not exist yet."""

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
    """The partitions of one bulk load. Each month is looked up once.

    Creating a partition locks users and repositories against writers until it is committed. So no partition is created
    in the load's own transaction: once that is open, another connection of the pool creates it.

    A transaction that was open before this object was created belongs to the caller. It may have written users, and
    then another connection would wait for it forever. In that case the partition is created in the caller's
    transaction, and the caller must keep the transaction short.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: set[Month] = set()
        self._is_callers = pool.in_transaction()

    def make_missing(self, months: Iterable[Month]) -> None:
        """Create the missing partitions of these months.

        Raises Unavailable if this takes a second connection and the pool has only one.
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
                f"creating the partition of {start:%Y-%m} takes a second connection during a load, and pool"
                f" {self._pool.name} has one; call make_partitions before the load, or set the pool's size to 2"
            )
        query, deadline = _QUERIES["make_partitions"], self._pool.deadline()
        # As in a transaction: if this fails the load is rolled back, so its outcome is not unknown.
        with self._pool.call(query, deadline, in_transaction=True):
            with self._pool.connection(deadline) as connection:
                connection.execute(query.sql, parameters, prepare=False)
