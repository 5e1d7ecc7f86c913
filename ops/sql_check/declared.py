"""The types of a query's parameters and result columns, as declared in Python."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

import db.models
import db.rows
from db.named_query import QUERIES_DIR, SCALARS, NamedQuery, queries
from ops.errors import OpsError


@dataclass(frozen=True)
class Column:
    """A column's name, Python type, and nullability. An empty name matches any."""

    name: str
    type: str
    is_nullable: bool

    def __str__(self) -> str:
        return f"{self.type} | None" if self.is_nullable else self.type


def all_queries() -> dict[str, NamedQuery]:
    """Return all queries of db/queries by file and name: `users.find_user`. Raise OpsError for an invalid file."""
    found: dict[str, NamedQuery] = {}
    for path in sorted(QUERIES_DIR.glob("*.sql")):
        try:
            for query in queries(path.stem).values():
                found[f"{path.stem}.{query.name}"] = query
        except ValueError as error:
            raise OpsError(f"db/queries: {error}") from error
    return found


def declared_columns(query: NamedQuery) -> list[Column]:
    """Return the columns that `gives` declares.

    Raise OpsError for a name that is neither a Struct nor a type, or that both modules of Structs define.
    """
    if query.gives is None:
        return []
    kind, is_nullable = _without_none(query.gives)
    if kind in SCALARS:
        return [Column("", kind, is_nullable)]
    if hasattr(db.models, kind) and hasattr(db.rows, kind):
        raise OpsError(
            f"query {query.name}: `gives` is {kind!r}, which db.models and db.rows both define; rename one of the two"
        )
    struct = getattr(db.models, kind, None) or getattr(db.rows, kind, None)
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        raise OpsError(
            f"query {query.name}: `gives` is {kind!r}, which is neither a Struct of db.models or db.rows nor a type"
            f" ({', '.join(SCALARS)})"
        )
    hints = typing.get_type_hints(struct)
    return [_column(field, hints[field]) for field in struct.__struct_fields__]


def declared_parameters(query: NamedQuery) -> Mapping[str, str]:
    """Return parameter -> Python type without `| None`, because the server does not know parameters' nullability."""
    return {name: _without_none(kind)[0].replace(" | None]", "]") for name, kind in query.takes.items()}


def _without_none(kind: str) -> tuple[str, bool]:
    return kind.removesuffix(" | None"), kind.endswith(" | None")


def _column(name: str, hint: object) -> Column:
    arguments = [hint]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        arguments = list(typing.get_args(hint))
    kinds = [each for each in arguments if each is not type(None)]
    return Column(name, _name(kinds[0]), len(kinds) < len(arguments))


def _name(hint: object) -> str:
    origin = typing.get_origin(hint)
    if origin is list:
        return f"list[{_name(typing.get_args(hint)[0])}]"
    if origin is typing.Literal:
        # An enumeration, which is text with a CHECK.
        return type(typing.get_args(hint)[0]).__name__
    return str(getattr(origin or hint, "__name__", hint))
