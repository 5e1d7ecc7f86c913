# Generated from db/_async/keyed_records.py by scripts/generate_sync.py; edit that, not this.
"""Repositories of records with a natural key, which can be read by the key and upserted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from psycopg.types.json import Jsonb

from db._sync.records import RecordRepository
from db.errors import InvalidInput, NotFound
from db.record_kind import Record, as_json
from db.validation import bigint, limited_json

R = TypeVar("R", bound=Record)
N = TypeVar("N")


class KeyedRepository(RecordRepository[R, N]):
    """The methods of records with a natural key (`RecordKind.key`), in addition to those of all records."""

    def _get_by_key(self, value: object) -> R:
        record = self._find_by_key(value)
        if record is None:
            raise NotFound(self._kind.entity, f"{self._kind.key} {value}")
        return record

    def _find_by_key(self, value: object) -> R | None:
        query = self._queries[f"find_{self._kind.entity}_by_{self._kind.key}"]
        return self._pool.read_one(query, {self._kind.key: value}, self._row)

    def upsert(self, record: N, *, idempotency_key: str | None = None) -> R:
        """Insert the record, or update the one with its natural key, and return it. Fields left out are kept.

        `idempotency_key` works as in `add`.
        """
        parameters = self._kind.parameters(record) | dict(self._kind.known(record))
        write = partial(self._write, f"upsert_{self._kind.entity}", parameters)
        return self._once("upsert", self._kind.named(parameters), idempotency_key, write)

    def upsert_many(self, records: Iterable[N]) -> Sequence[R]:
        """Upsert records in one transaction, and return them in the given order. Fields left out are kept.

        Takes one statement for all records that leave out the same fields. Each statement has a deadline, so pass at
        most some thousands of records at once. Raises InvalidInput if two records have the same natural key, or if the
        records of one statement are too large.
        """
        order: dict[Any, None] = {}
        alike: dict[tuple[tuple[str, bool], ...], list[dict[str, Any]]] = {}
        for record in records:
            parameters = self._kind.parameters(record)
            key = parameters[self._kind.key]
            if key in order:
                raise InvalidInput("records", f"contain {self._kind.key} {key} twice; pass each record once")
            order[key] = None
            plain = {name: as_json(value) for name, value in parameters.items()}
            alike.setdefault(tuple(self._kind.known(record).items()), []).append(plain)
        if not order:
            return []
        for rows in alike.values():
            limited_json("records", rows, " at once")
        query = self._queries[f"upsert_{self._kind.plural}"]
        written: dict[Any, R] = {}
        with self._pool.transaction():
            for known, rows in alike.items():
                parameters = {"records": Jsonb(rows)} | dict(known)
                for stored in self._pool.fetch_all(query, parameters, self._row):
                    written[getattr(stored, self._kind.key)] = stored
            invalidate = partial(self.cached.drop, [(each.id, each.row_version) for each in written.values()])
            self._pool.after_commit(invalidate, invalidate)
        return [written[key] for key in order]


class GitHubRepository(KeyedRepository[R, N]):
    """The methods of users, organizations and repositories, whose natural key is GitHub's id."""

    def get_by_github_id(self, github_id: int) -> R:
        """Return the record with this GitHub id, from Postgres. Raises NotFound."""
        return self._get_by_key(bigint("github_id", github_id))

    def find_by_github_id(self, github_id: int) -> R | None:
        """Return the record with this GitHub id, or None, from Postgres."""
        return self._find_by_key(bigint("github_id", github_id))
