"""Check each parameter that a test sends against its query's `takes`. The server sees only its own types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Json, Jsonb

from db._async.connection import AsyncBoundedConnection
from db._sync.connection import BoundedConnection
from db.named_query import NamedQuery

_KINDS: dict[str, type | tuple[type, ...]] = {
    "int": int, "str": str, "bool": bool, "float": (float, int), "bytes": bytes,
    "datetime": datetime, "dict": (dict, Json, Jsonb), "date": date, "Decimal": Decimal, "UUID": UUID,
}  # fmt: skip


def is_of(value: object, kind: str) -> bool:
    """Return whether a value has a type as written in `takes`."""
    if kind.endswith(" | None"):
        return value is None or is_of(value, kind.removesuffix(" | None"))
    if kind.startswith("list["):
        return isinstance(value, list) and all(is_of(each, kind[len("list[") : -1]) for each in value)
    return isinstance(value, _KINDS[kind]) and (kind == "bool") == isinstance(value, bool)


def hold(query: NamedQuery, parameters: Mapping[str, Any]) -> None:
    """Raise AssertionError if names or types differ from the declaration."""
    assert parameters.keys() == query.takes.keys(), (
        f"{query.name} takes {[*query.takes]}, not {[*parameters]}"
    )
    for name, kind in query.takes.items():
        assert is_of(parameters[name], kind), f"{query.name}: {name} is {parameters[name]!r:.80}, not {kind}"


def watch(monkeypatch: Any) -> None:
    """From now on, check the parameters of every query that a pool executes."""
    sync, asynchronous = BoundedConnection.fetch, AsyncBoundedConnection.fetch

    def fetch(self: Any, query: NamedQuery, parameters: Any, row_factory: Any) -> Any:
        hold(query, parameters)
        return sync(self, query, parameters, row_factory)

    async def async_fetch(self: Any, query: NamedQuery, parameters: Any, row_factory: Any) -> Any:
        hold(query, parameters)
        return await asynchronous(self, query, parameters, row_factory)

    monkeypatch.setattr(BoundedConnection, "fetch", fetch)
    monkeypatch.setattr(AsyncBoundedConnection, "fetch", async_fetch)
