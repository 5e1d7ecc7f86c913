"""A database's schema as plain comparable data, and where two of them differ: drift.

Nothing but pg_catalog is read, by any role that may use the schema. Monthly partitions are made at run time, so that
one is there or not is no drift; what one looks like is held against what its table's partitions are meant to be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from db.migrator.catalog_queries import PARTITIONS, QUERIES
from db.migrator.connection import Connection, open_connection
from db.migrator.ledger import TABLE

_MONTHLY = re.compile(r"_(\d{4})_(\d{2})$")
_MIDNIGHT = r"(?: 00:00:00(?:\+00)?)?"
_ANY_MONTH = "_YYYY_MM"
# What a change of the table changes in its partitions as well.
_INHERITED = ("column ", "constraint ", "index ", "trigger ")


@dataclass(frozen=True)
class Entry:
    """One thing's definition, in SQL as far as it goes; `of` is the entry without which it cannot be."""

    definition: str
    of: str | None


@dataclass(frozen=True)
class Catalog:
    """Every entry by its name (`column users.email`), and the monthly partitions with their tables."""

    entries: Mapping[str, Entry]
    monthly: Mapping[str, str]


@dataclass(frozen=True)
class Drift:
    """One difference: `what` is the entry's name; `expected` is None where it is unexpected, `found` where missing."""

    kind: Literal["missing", "unexpected", "different"]
    what: str
    expected: str | None
    found: str | None


def read_catalog(conninfo: str) -> Catalog:
    """What the database's schema is now, in one snapshot. Unreachable where it cannot be read."""
    with open_connection(conninfo) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return catalog_of(connection)


def catalog_of(connection: Connection) -> Catalog:
    """What the connection's transaction sees; its time zone and search_path are set for the rest of it."""
    # What is printed depends on both: names that are visible are short, bounds are in the session's zone.
    connection.execute(
        "SELECT set_config('timezone', 'UTC', true), set_config('search_path', coalesce("
        " (SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relname = %s AND relkind = 'r' ORDER BY pg_table_is_visible(pg_class.oid) DESC, 1 LIMIT 1),"
        " quote_ident(current_schema()), ''), true)",
        [TABLE],
    )
    rows = [row for query in QUERIES for row in connection.execute(query.encode()).fetchall()]
    partitions = connection.execute(PARTITIONS.encode()).fetchall()
    monthly = {str(name): str(parent) for name, parent in partitions if _is_monthly(str(name), str(parent))}
    entries = {
        str(name): Entry(str(definition or ""), None if of is None else str(of))
        for name, definition, of in rows
    }
    for name in monthly:
        table = f"table {name}"
        entries[table] = Entry(_with_its_month(name, entries[table].definition), None)
    return Catalog(dict(sorted(entries.items())), monthly)


def find_drift(expected: Catalog, found: Catalog) -> tuple[Drift, ...]:
    """Where `found` is not as expected, by name; a thing that is missing as a whole is named once."""
    sides = (_adapted(expected, found), found.entries)
    return tuple(
        drift
        for name in sorted(sides[0].keys() | sides[1].keys())
        if (drift := _difference(name, *sides)) and not _is_implied(name, sides, found.monthly)
    )


def _difference(name: str, wanted: Mapping[str, Entry], there: Mapping[str, Entry]) -> Drift | None:
    mine, theirs = wanted.get(name), there.get(name)
    expected = None if mine is None else mine.definition
    found = None if theirs is None else theirs.definition
    if expected == found:
        return None
    return Drift(
        "missing" if found is None else "unexpected" if expected is None else "different",
        name,
        expected,
        found,
    )


def _is_implied(
    name: str, sides: tuple[Mapping[str, Entry], Mapping[str, Entry]], monthly: Mapping[str, str]
) -> bool:
    """Whether another difference says it already: of what it is a part of, or of the partitions' table."""
    wanted, there = sides
    of = (wanted.get(name) or there[name]).of
    if of is not None and (of in wanted) != (of in there):
        return True
    if name.startswith("order of columns of "):
        columns, others = (set(side[name].definition.split(", ")) for side in sides)
        return columns != others
    partition = (of or "").removeprefix("table ")
    if partition not in monthly or not name.startswith(_INHERITED):
        return False
    above = name.replace(f"{partition}: ", "").replace(partition, monthly[partition])
    here, there_too = _difference(name, *sides), _difference(above, *sides)
    return above != name and here is not None and there_too is not None and here.kind == there_too.kind


def _adapted(expected: Catalog, found: Catalog) -> dict[str, Entry]:
    """What is expected of a database that has the months which `found` has."""
    shapes: dict[str, dict[str, Entry]] = {}
    entries: dict[str, Entry] = {}
    for name, entry in expected.entries.items():
        partition = _partition_of(name, entry, expected)
        if partition is None:
            entries[name] = entry
        else:
            parent = expected.monthly[partition]
            shapes.setdefault(parent, {}).setdefault(*_renamed(name, entry, partition, parent + _ANY_MONTH))
    for partition, parent in found.monthly.items():
        for name, entry in shapes.get(parent, {}).items():
            entries.update([_renamed(name, entry, parent + _ANY_MONTH, partition)])
    return entries


def _partition_of(name: str, entry: Entry, catalog: Catalog) -> str | None:
    table = entry.of or name
    if table.startswith("column "):
        table = table.removeprefix("column ").rpartition(".")[0]
    table = table.removeprefix("table ")
    return table if table in catalog.monthly else None


def _renamed(name: str, entry: Entry, old: str, new: str) -> tuple[str, Entry]:
    of = None if entry.of is None else entry.of.replace(old, new)
    return name.replace(old, new), Entry(entry.definition.replace(old, new), of)


def _is_monthly(name: str, parent: str) -> bool:
    return name.startswith(parent) and _MONTHLY.fullmatch(name[len(parent) :]) is not None


def _with_its_month(name: str, definition: str) -> str:
    """The definition without the bound that follows from the name; another bound stays, and is drift."""
    named = _MONTHLY.search(name)
    assert named is not None
    year, month = int(named[1]), int(named[2])
    following = (year + month // 12, month % 12 + 1)
    return re.sub(
        rf"FOR VALUES FROM \('{year:04}-{month:02}-01{_MIDNIGHT}'\)"
        rf" TO \('{following[0]:04}-{following[1]:02}-01{_MIDNIGHT}'\)",
        "FOR VALUES of its month",
        definition,
    )
