"""What differs between the kinds of records: type, queries, parameters and lifetime in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from msgspec import UNSET, Struct
from msgspec.structs import replace
from psycopg.types.json import Jsonb

from cache.timing import Tier


class Record(Protocol):
    """The attributes that every cached record has."""

    @property
    def id(self) -> int: ...
    @property
    def row_version(self) -> int: ...


R = TypeVar("R", bound=Record)
N = TypeVar("N")
S = TypeVar("S", bound=Struct)


def _nothing(record: object) -> Mapping[str, bool]:
    return {}


@dataclass(frozen=True)
class RecordKind(Generic[R, N]):
    """One kind of record.

    `entity` and `plural` are part of its queries' names, as in find_user and find_users in db/queries/users.sql.
    `schema` is the number in its cache keys. `parameters` returns the checked query parameters of a record or a new
    record, without id and row_version. `key` is the field that is its natural key, or empty if it has none. `known`
    returns the `sets_...` flags of an upsert, which needs a natural key.
    """

    entity: str
    plural: str
    model: type[R]
    schema: int
    tier: Tier
    parameters: Callable[[R | N], dict[str, Any]]
    key: str = ""
    known: Callable[[N], Mapping[str, bool]] = _nothing

    def named(self, parameters: Mapping[str, Any]) -> str:
        """Return which record an insert writes, for the purpose of an idempotency key."""
        return f" with {self.key} {parameters[self.key]}" if self.key else ""


def as_json(value: Any) -> Any:
    """Return a query parameter as a value of JSON that `jsonb_to_recordset` reads as the same value."""
    if isinstance(value, Jsonb):
        return value.obj
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) else value


def checked_changes(
    any_record: S, parameters: Callable[[S], dict[str, Any]], /, **fields: object
) -> dict[str, Any]:
    """Return the checked parameters of the fields that are not UNSET. `any_record` has valid values for the others."""
    given = {name: value for name, value in fields.items() if value is not UNSET}
    checked = parameters(replace(any_record, **given))
    return {name: checked[name] for name in given}


def distinct(records: Iterable[R | None]) -> list[R | None]:
    """Return the records, with a copy of each one that occurs again, so that no two share a dictionary."""
    seen: set[int] = set()
    result: list[R | None] = []
    for record in records:
        result.append(deepcopy(record) if id(record) in seen else record)
        seen.add(id(record))
    return result
