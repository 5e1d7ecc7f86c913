"""What differs between the kinds of records: type, queries, parameters and lifetime in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cache.timing import Tier


class Record(Protocol):
    """The attributes that every cached record has."""

    @property
    def id(self) -> int: ...
    @property
    def row_version(self) -> int: ...


R = TypeVar("R", bound=Record)
N = TypeVar("N")


@dataclass(frozen=True)
class RecordKind(Generic[R, N]):
    """One kind of record.

    `entity` and `plural` are part of its queries' names, as in find_user and find_users in db/queries/users.sql.
    `schema` is the number in its cache keys. `parameters` returns the checked query parameters of a record or a new
    record, without id and row_version. `known` returns the `sets_...` flags of an upsert.
    """

    entity: str
    plural: str
    model: type[R]
    schema: int
    tier: Tier
    parameters: Callable[[R | N], dict[str, Any]]
    known: Callable[[N], Mapping[str, bool]]


def distinct(records: Iterable[R | None]) -> list[R | None]:
    """Return the records with a copy in place of each object that came before, so that no two share a dictionary."""
    seen: set[int] = set()
    result: list[R | None] = []
    for record in records:
        result.append(deepcopy(record) if id(record) in seen else record)
        seen.add(id(record))
    return result
