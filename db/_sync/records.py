# Generated from db/_async/records.py by scripts/generate_sync.py; edit that, not this.
"""Records of one kind: read through the cache, written to Postgres, and the cache told of every write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from psycopg.rows import args_row, scalar_row

from cache._sync.client import Client
from cache._sync.read_through import ReadThrough
from cache.codec import Codec
from cache.keys import EntityKeys
from cache.near import MISS
from db._sync.idempotency import write_once
from db._sync.pool import Pool
from db._sync.transaction import innermost_block
from db.deadline import Deadline
from db.errors import NotFound, OutcomeUnknown, VersionConflict
from db.models import Page
from db.named_query import queries
from db.paging import Listing
from db.record_kind import Record, RecordKind
from db.validation import bigint

R = TypeVar("R", bound=Record)
N = TypeVar("N")


class RecordRepository(Generic[R, N]):
    """The verbs that users, organizations and repositories share.

    Inside `data.transaction()` reads go to Postgres past the cache, and the cache is told after COMMIT.
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
        )
        self._peek = self.cached.peek

    def get(self, record_id: int) -> R:
        """The record with this id. Raises NotFound."""
        record = self._peek(record_id) if innermost_block() is None else MISS
        if record is MISS:
            record = self._find(record_id)
        if record is None:
            raise NotFound(self._kind.entity, f"id {record_id}")
        return record

    def find(self, record_id: int) -> R | None:
        """The record with this id, or None."""
        record = self._peek(record_id) if innermost_block() is None else MISS
        return self._find(record_id) if record is MISS else record

    def _find(self, record_id: int) -> R | None:
        bigint(self._id_name, record_id)
        if self._pool.in_transaction():
            return self._load(record_id)
        return self.cached.find(record_id, partial(self._load, deadline=self._pool.deadline()))

    def get_by_github_id(self, github_id: int) -> R:
        """The record with this GitHub number, past the cache. Raises NotFound."""
        record = self.find_by_github_id(github_id)
        if record is None:
            raise NotFound(self._kind.entity, f"github_id {github_id}")
        return record

    def find_by_github_id(self, github_id: int) -> R | None:
        """The record with this GitHub number, or None, past the cache."""
        parameters = {"github_id": bigint("github_id", github_id)}
        return self._fetch(f"find_{self._kind.entity}_by_github_id", parameters)

    def get_many(self, record_ids: Sequence[int]) -> list[R | None]:
        """The records with these ids, in this order; None stands for one that is not there.

        One round trip to Redis for a few hundred, and one to Postgres for all that are not cached.
        """
        ids = [bigint(f"{self._id_name}s", record_id) for record_id in record_ids]
        load = partial(self._load_many, deadline=self._pool.deadline())
        found = load(ids) if self._pool.in_transaction() else self.cached.find_many(ids, load)
        return [found.get(record_id) for record_id in ids]

    def list(self, *, limit: int = 50, after: str | None = None) -> Page[R]:
        """A page by id, past the cache. `after` is the `next` of the page before."""
        (after_id,) = self._by_id.start(after, (0,))
        return self._page(
            self._by_id, f"list_{self._kind.plural}", {"after_id": after_id}, limit, attrgetter("id")
        )

    def add(self, record: N, *, idempotency_key: str | None = None) -> R:
        """Make a record. Raises ConstraintViolated where its github_id is taken.

        With a key, of the caller's choice and the same for every attempt, a write whose answer was lost is
        sent again once, and one that was done already is not done twice: the record is returned as it stands.
        """
        parameters = self._kind.parameters(record)
        write = partial(self._write, f"add_{self._kind.entity}", parameters)
        return self._once("add", f"github_id {parameters['github_id']}", idempotency_key, write)

    def upsert(self, record: N, *, idempotency_key: str | None = None) -> R:
        """Make the record with this github_id, or bring it up to date; fields left out are kept."""
        parameters = self._kind.parameters(record) | dict(self._kind.known(record))
        write = partial(self._write, f"upsert_{self._kind.entity}", parameters)
        return self._once("upsert", f"github_id {parameters['github_id']}", idempotency_key, write)

    def update(self, record: R, *, idempotency_key: str | None = None) -> R:
        """Write a changed record. Raises VersionConflict where it has changed since it was read; NotFound."""
        parameters = self._kind.parameters(record) | {
            "id": bigint("id", record.id),
            "row_version": bigint("row_version", record.row_version),
        }
        write = partial(self._update, record, parameters)
        return self._once("update", f"id {record.id}", idempotency_key, write)

    def _once(self, verb: str, which: str, idempotency_key: str | None, write: Callable[[], R]) -> R:
        # Not what is written as well: who begins anew reads anew, and may come to something else.
        purpose = f"{verb} {self._kind.entity} with {which}"
        return write_once(self._pool, idempotency_key, purpose, write, self.get)

    def _update(self, record: R, parameters: dict[str, Any]) -> R:
        deadline = self._pool.deadline()
        try:
            updated = self._fetch(f"update_{self._kind.entity}", parameters, deadline)
        except OutcomeUnknown:
            # Whoever reads now to see what came of it has to see what stands.
            self.cached.drop([(record.id, None)])
            raise
        if updated is None:
            current = self._load(record.id, deadline)
            # What was read may have come from the cache; the next read has to see what stands.
            version = None if current is None else current.row_version
            if not self._pool.in_transaction():
                self.cached.drop([(record.id, version)])
            if current is None:
                raise NotFound(self._kind.entity, f"id {record.id}")
            raise VersionConflict(self._kind.entity, record.id, record.row_version)
        self._tell(updated)
        return updated

    def delete(self, record_id: int) -> None:
        """Delete the record with this id. Raises NotFound."""
        parameters = {"id": bigint(self._id_name, record_id)}
        query = self._queries[f"delete_{self._kind.entity}"]
        forget = partial(self.cached.drop, [(record_id, None)])
        try:
            deleted = self._pool.fetch_one(query, parameters, scalar_row)
        except OutcomeUnknown:
            forget()
            raise
        self._pool.after_commit(forget, forget)
        if deleted is None:
            raise NotFound(self._kind.entity, f"id {record_id}")

    def _fetch(self, query: str, parameters: dict[str, Any], deadline: Deadline | None = None) -> R | None:
        return self._pool.fetch_one(self._queries[query], parameters, self._row, deadline)

    def _write(self, query: str, parameters: dict[str, Any]) -> R:
        record = self._fetch(query, parameters)
        assert record is not None, f"{query} returns the row it wrote"
        self._tell(record)
        return record

    def _tell(self, record: R) -> None:
        self._pool.after_commit(
            partial(self.cached.replace, record.id, record),
            partial(self.cached.drop, [(record.id, None)]),
        )

    def _page(
        self, listing: Listing, query: str, parameters: dict[str, Any], limit: int, key: Any
    ) -> Page[R]:
        """One more than asked for tells whether there is a next page."""
        parameters = parameters | {"limit": listing.checked_limit(limit) + 1}
        records = self._pool.fetch_all(self._queries[query], parameters, self._row)
        return listing.page(records, limit, key)

    def _load(self, record_id: int, deadline: Deadline | None = None) -> R | None:
        return self._fetch(f"find_{self._kind.entity}", {"id": record_id}, deadline)

    def _load_many(self, record_ids: Sequence[int], deadline: Deadline) -> dict[int, R]:
        query = self._queries[f"find_{self._kind.plural}"]
        records = self._pool.fetch_all(query, {"ids": [*record_ids]}, self._row, deadline)
        return {record.id: record for record in records}
