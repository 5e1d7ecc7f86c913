"""What tells one kind of record from another: its type, its queries, its parameters, and its life in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cache.ttl import Tier


class Record(Protocol):
    """What every cached record has."""

    @property
    def id(self) -> int: ...
    @property
    def row_version(self) -> int: ...


R = TypeVar("R", bound=Record)
N = TypeVar("N")


@dataclass(frozen=True)
class RecordKind(Generic[R, N]):
    """`entity` and `plural` stand in the names of its queries, find_user and find_users; db/queries/{plural}.sql.

    `parameters` turns a record, or a new one, into checked parameters, without id and row_version; `known`
    gives the sets_... flags of an upsert.
    """

    entity: str
    plural: str
    model: type[R]
    schema: int
    tier: Tier
    parameters: Callable[[R | N], dict[str, Any]]
    known: Callable[[N], Mapping[str, bool]]
