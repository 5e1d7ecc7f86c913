"""The kinds of values that this release caches in Redis, by the entity in their keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cache.codec import Packing
from db.entities import ENTITIES, FEEDS, Entity
from db.record_kind import RecordKind


@dataclass(frozen=True)
class CachedKind:
    """One kind of cached value: a record, or a page of a feed (`is_feed`), of which each owner has many.

    `schema` is the number in its keys. `unpack` decodes packed bytes, or raises UndecodableEntry.
    """

    entity: str
    schema: int
    is_feed: bool
    unpack: Callable[[bytes], Any]


def _record(entity: Entity) -> CachedKind:
    kind: RecordKind[Any, Any] = import_module(f"db._sync.{entity.plural}").KIND
    return CachedKind(kind.entity, kind.schema, False, Packing(kind.model).unpack)


def _feed(name: str) -> CachedKind:
    feeds = import_module(f"db._sync.{FEEDS[name]}")
    return CachedKind(name, feeds.SCHEMA, True, Packing(feeds.PAGE).unpack)


KINDS = {
    kind.entity: kind
    for kind in (
        *map(_record, ENTITIES),
        *map(_feed, FEEDS),
    )
}
