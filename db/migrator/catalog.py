"""Read a database's schema as plain data, and find the differences between two schemas (drift).

Reads only pg_catalog, and works with any role that may use the schema. Monthly partitions are created at run time, so
a missing or additional one is not drift. Each existing partition is compared with the expected form of a partition of
its table.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from db.migrator.catalog_queries import PARTITIONS, QUERIES
from db.migrator.connection import Connection, open_connection
from db.migrator.ledger import NAME, TABLE

_MONTHLY = re.compile(r"_(\d{4})_(\d{2})$")
_MIDNIGHT = r"(?: 00:00:00(?:\+00)?)?"
_ANY_MONTH = "_YYYY_MM"
# Entries of partitions that change together with their table's.
_INHERITED = ("column ", "constraint ", "index ", "trigger ")


@dataclass(frozen=True)
class Entry:
    """The definition of one object, as SQL where possible. `of` is the entry that it belongs to, if any."""

    definition: str
    of: str | None


@dataclass(frozen=True)
class Catalog:
    """All entries by name (such as `column users.email`), and each monthly partition with its table."""

    entries: Mapping[str, Entry]
    monthly: Mapping[str, str]


@dataclass(frozen=True)
class Drift:
    """One difference. `what` is the entry's name.

    `expected` is None for an unexpected entry; `found` is None for a missing one.
    """

    kind: Literal["missing", "unexpected", "different"]
    what: str
    expected: str | None
    found: str | None


def read_catalog(conninfo: str) -> Catalog:
    """Read the database's current schema in one snapshot. Raises Unreachable."""
    with open_connection(conninfo) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return catalog_of(connection)


def catalog_of(connection: Connection) -> Catalog:
    """Read the schema in the connection's transaction. Sets time zone and search_path for the rest of it."""
    # Definitions depend on both: visible names have no schema, and partition bounds are in the session's time zone.
    row = connection.execute(
        "SELECT set_config('timezone', 'UTC', true), coalesce("
        " (SELECT quote_ident(nspname::text) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE relname = parts[pg_catalog.cardinality(parts)] AND relkind = 'r'"
        " AND (pg_catalog.cardinality(parts) = 1 OR nspname = parts[1])"
        " ORDER BY pg_table_is_visible(pg_class.oid) DESC, nspname LIMIT 1),"
        f" quote_ident(current_schema()::text), '') FROM parse_ident({NAME}) AS parts",
        [TABLE],
    ).fetchone()
    assert row is not None
    # The server looks up functions and operators when it opens a cursor, and shortens names when it reads from one.
    connection.execute("SET LOCAL search_path = pg_catalog")
    for number, query in enumerate((*QUERIES, PARTITIONS)):
        connection.execute(f"DECLARE catalog_{number} NO SCROLL CURSOR FOR {query}".encode())
    connection.execute("SELECT set_config('search_path', %s, true)", [row[1]])
    *found, partitions = (
        connection.execute(f"FETCH ALL FROM catalog_{number}".encode()).fetchall()
        for number in range(len(QUERIES) + 1)
    )
    connection.execute("; ".join(f"CLOSE catalog_{number}" for number in range(len(QUERIES) + 1)).encode())
    rows = itertools.chain.from_iterable(found)
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
    """Return the differences of `found` from `expected`, by name. A missing object is reported without its parts."""
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
    """Return whether another difference includes this one: that of its parent, or of the partition's table."""
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
    """Return the expected entries for a database with the monthly partitions of `found`."""
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
    """Replace the bound that matches the partition's name. Any other bound stays and is reported as drift."""
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
