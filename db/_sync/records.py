# Generated from db/_async/records.py by scripts/generate_sync.py; edit that, not this.
"""Records of one kind: read through the cache and written to Postgres. Each write invalidates cached entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from psycopg.rows import args_row, scalar_row
from psycopg.types.json import Jsonb

from cache._sync.client import Client
from cache._sync.feeds import FeedCache
from cache._sync.read_through import ReadThrough
from cache.codec import Codec
from cache.keys import EntityKeys
from cache.near import MISS
from db._sync.idempotency import write_once
from db._sync.pages import items
from db._sync.pool import Pool
from db._sync.transaction import current_transaction, innermost_block
from db.deadline import Deadline, end_of_block
from db.errors import (
    DbError,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    TransactionRequired,
    VersionConflict,
)
from db.models import Page
from db.named_query import queries
from db.paging import Listing
from db.record_kind import Record, RecordKind, as_json, distinct
from db.validation import bigint, bigints

R = TypeVar("R", bound=Record)
N = TypeVar("N")


class RecordRepository(Generic[R, N]):
    """The methods that all kinds of records have.

    `get`, `find` and `get_many` use the near cache and Redis; all other reads go to Postgres. Inside
    `data.transaction()` every read goes to Postgres, and cached entries are invalidated after COMMIT.

    Any method may raise InvalidInput for a value that cannot be stored, and Unavailable or DeadlineExceeded if
    Postgres does not answer in time. A write may raise OutcomeUnknown; with an idempotency key it is retried first.
    """

    def __init__(self, kind: RecordKind[R, N], pool: Pool, client: Client, namespace: str) -> None:
        self._kind = kind
        self._pool = pool
        self._queries = queries(kind.plural)
        self._row = args_row(kind.model)
        self._id_name = f"{kind.entity}_id"
        self._by_id = Listing(f"{kind.plural} by id", length=1)
        self.cached = ReadThrough(
            client,
            EntityKeys(namespace, kind.entity, kind.schema),
            Codec(kind.model, attrgetter("row_version")),
            kind.tier,
            DbError,
        )
        self._peek = self.cached.peek
        # The feeds that these records own, if there are any. A delete changes them too.
        self.feeds: FeedCache[Any] | None = None

    def get(self, record_id: int) -> R:
        """Return the record with this id. Raises NotFound."""
        record = self._peek(record_id) if innermost_block() is None else MISS
        if record is MISS:
            record = self._find(record_id)
        if record is None:
            raise NotFound(self._kind.entity, f"id {record_id}")
        return record

    def find(self, record_id: int) -> R | None:
        """Return the record with this id, or None."""
        record = self._peek(record_id) if innermost_block() is None else MISS
        return self._find(record_id) if record is MISS else record

    def _find(self, record_id: int) -> R | None:
        record_id = bigint(self._id_name, record_id)
        if self._pool.in_transaction():
            return self._load(record_id)
        load = partial(self._load, deadline=self._pool.deadline())
        return self.cached.find(record_id, load, end_of_block())

    def lock(self, record_id: int) -> R:
        """Return the record with this id, locked until the transaction ends. Raises NotFound.

        Other transactions that change, delete or lock the record wait until then. Reads do not wait, and neither do
        rows that refer to the record. Raises TransactionRequired outside of a transaction.
        """
        record_id = bigint(self._id_name, record_id)
        if not self._pool.in_transaction():
            raise TransactionRequired(f"{self._kind.plural}.lock")
        record = self._fetch(f"lock_{self._kind.entity}", {"id": record_id})
        if record is None:
            self._repair(record_id, None)
            raise NotFound(self._kind.entity, f"id {record_id}")
        return record

    def get_many(self, record_ids: Iterable[int]) -> list[R | None]:
        """Return the records with these ids in the given order, with None for each missing one.

        Takes one round trip to Redis per 200 ids, and one query to Postgres for all that are not cached.
        """
        ids = bigints(f"{self._id_name}s", record_ids)
        load = partial(self._load_many, deadline=self._pool.deadline())
        found = load(ids) if self._pool.in_transaction() else self.cached.find_many(ids, load, end_of_block())
        records = [found.get(record_id) for record_id in ids]
        return records if len(set(ids)) == len(ids) else distinct(records)

    def list(self, *, limit: int = 50, after: str | None = None) -> Page[R]:
        """Return a page of records ordered by id, from Postgres. `after` is the previous page's `next`."""
        (after_id,) = self._by_id.start(after, (0,))
        return self._page(
            self._by_id, f"list_{self._kind.plural}", {"after_id": after_id}, limit, attrgetter("id")
        )

    def iterate(self, *, page_size: int = 500) -> Iterator[R]:
        """Yield all records ordered by id, from Postgres. Keeps one page in memory.

        Each page is a query of its own. A record that is inserted or deleted meanwhile may or may not be among them.
        """
        return items(self.list, page_size)

    def count(self) -> int:
        """Return the number of records, from Postgres. The time it takes grows with their number."""
        query = self._queries[f"count_{self._kind.plural}"]
        return self._pool.read_one(query, {}, scalar_row) or 0

    def exists(self, record_id: int) -> bool:
        """Return whether there is a record with this id. Uses the cache as `find` does."""
        return self.find(record_id) is not None

    def add(self, record: N, *, idempotency_key: str | None = None) -> R:
        """Insert a record and return it. Raises ConstraintViolated if another one has its natural key.

        With `idempotency_key` (1 to 200 characters, the same for every attempt), a write whose answer was lost is
        sent once more, and a write that is already done is not repeated: its current record is returned. Raises
        IdempotencyKeyReused if the key was used for a different write. Keys are kept for a day.
        """
        parameters = self._kind.parameters(record)
        write = partial(self._write, f"add_{self._kind.entity}", parameters)
        return self._once("add", self._kind.named(parameters), idempotency_key, write)

    def update(self, record: R, *, idempotency_key: str | None = None) -> R:
        """Write a changed record and return it with its new row_version.

        `idempotency_key` works as in `add`. Raises VersionConflict if the record was changed since it was read, and
        NotFound if it was deleted.
        """
        parameters = self._kind.parameters(record) | {
            "id": bigint("id", record.id),
            "row_version": bigint("row_version", record.row_version),
        }
        write = partial(self._update, "update", parameters)
        return self._once("update", f" with id {parameters['id']}", idempotency_key, write)

    def _once(self, verb: str, which: str, idempotency_key: str | None, write: Callable[[], R]) -> R:
        # Without the values: a caller that starts over may compute different ones.
        purpose = f"{verb} {self._kind.entity}{which}"
        return write_once(self._pool, idempotency_key, purpose, write, self.get)

    def _patch(
        self, record_id: int, changes: dict[str, Any], row_version: int | None, idempotency_key: str | None
    ) -> R:
        """Change the fields in `changes`, which are parameters of a record."""
        if not changes:
            raise InvalidInput("changes", "are empty; pass at least one field to change")
        parameters = {
            "id": bigint(self._id_name, record_id),
            "row_version": None if row_version is None else bigint("row_version", row_version),
            "changes": Jsonb({name: as_json(value) for name, value in changes.items()}),
        }
        write = partial(self._update, "patch", parameters)
        return self._once("patch", f" with id {parameters['id']}", idempotency_key, write)

    def _update(self, verb: str, parameters: dict[str, Any]) -> R:
        deadline = self._pool.deadline()
        record_id, expected = parameters["id"], parameters["row_version"]
        try:
            updated = self._fetch(f"{verb}_{self._kind.entity}", parameters, deadline)
        except OutcomeUnknown:
            # The next read must show whether the update was committed.
            self.cached.drop([(record_id, None)])
            raise
        if updated is None:
            current = self._load(record_id, deadline)
            self._repair(record_id, None if current is None else current.row_version)
            if current is None or expected is None:
                raise NotFound(self._kind.entity, f"id {record_id}")
            raise VersionConflict(self._kind.entity, record_id, expected)
        self._update_cache(updated)
        return updated

    def delete(self, record_id: int) -> None:
        """Delete the record with this id. Raises NotFound."""
        record_id = bigint(self._id_name, record_id)
        if not self._delete(f"delete_{self._kind.entity}", {"id": record_id}, [record_id]):
            raise NotFound(self._kind.entity, f"id {record_id}")

    def delete_many(self, record_ids: Iterable[int]) -> int:
        """Delete the records with these ids in one statement, and return how many there were."""
        ids = sorted({bigint(f"{self._id_name}s", record_id) for record_id in record_ids})
        return self._delete(f"delete_{self._kind.plural}", {"ids": ids}, ids) if ids else 0

    def _delete(self, query: str, parameters: dict[str, Any], record_ids: Sequence[int]) -> int:
        """Execute a query that deletes these records, invalidate them, and return how many there were."""
        invalidate = partial(self._invalidate_deleted, record_ids)
        try:
            deleted = self._pool.fetch_all(self._queries[query], parameters, scalar_row)
        except OutcomeUnknown:
            self._pool.after_commit(invalidate, invalidate)
            raise
        self._pool.after_commit(invalidate, invalidate)
        transaction = current_transaction(self._pool)
        if transaction is not None and len(deleted) < len(record_ids):
            # Also invalidate them after ROLLBACK: another program has deleted some of them before.
            transaction.repairs.append(invalidate)
        return len(deleted)

    def _invalidate_deleted(self, record_ids: Sequence[int]) -> None:
        self.cached.drop([(record_id, None) for record_id in record_ids])
        if self.feeds is not None:
            self.feeds.drop([(record_id, None) for record_id in record_ids])

    def _fetch(self, query: str, parameters: dict[str, Any], deadline: Deadline | None = None) -> R | None:
        return self._pool.fetch_one(self._queries[query], parameters, self._row, deadline)

    def _repair(self, record_id: int, version: int | None) -> None:
        """Invalidate an entry of another version, which the caller's record may come from.

        The next read must return the current record. Inside a transaction all reads go to Postgres.
        """
        transaction = current_transaction(self._pool)
        if transaction is None:
            self.cached.drop([(record_id, version)])
        else:
            # The version is that of the transaction's snapshot, or not committed.
            transaction.repairs.append(partial(self.cached.drop, [(record_id, None)]))

    def _write(self, query: str, parameters: dict[str, Any]) -> R:
        record = self._fetch(query, parameters)
        assert record is not None, f"{query} returns the row it wrote"
        self._update_cache(record)
        return record

    def _update_cache(self, record: R) -> None:
        # The caller gets the record before COMMIT, and may change its dictionaries until then.
        written = deepcopy(record) if self._pool.in_transaction() else record
        self._pool.after_commit(
            partial(self.cached.replace, record.id, written),
            partial(self.cached.drop, [(record.id, None)]),
        )

    def _page(
        self, listing: Listing, query: str, parameters: dict[str, Any], limit: int, key: Any
    ) -> Page[R]:
        """Read one record more than asked for, to know whether there is a next page."""
        parameters = parameters | {"limit": listing.checked_limit(limit) + 1}
        records = self._pool.read_all(self._queries[query], parameters, self._row)
        return listing.page(records, limit, key)

    def _load(self, record_id: int, deadline: Deadline | None = None) -> R | None:
        return self._fetch(f"find_{self._kind.entity}", {"id": record_id}, deadline)

    def _load_many(self, record_ids: Sequence[int], deadline: Deadline) -> dict[int, R]:
        query = self._queries[f"find_{self._kind.plural}"]
        records = self._pool.fetch_all(query, {"ids": [*record_ids]}, self._row, deadline)
        return {record.id: record for record in records}
