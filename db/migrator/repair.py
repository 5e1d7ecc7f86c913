"""Correct the ledger where it does not match the schema.

A changed checksum is accepted only if the file's old text is available and provably means the same. What happened to
a dirty migration must be stated by a person who has checked it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from db.migrator.connection import Connection
from db.migrator.equivalence import describe_difference, first_difference, text_of
from db.migrator.errors import SourceError, Unproven
from db.migrator.ledger import Ledger, LedgerRow, describe_absence
from db.migrator.lock import migration_lock
from db.migrator.lock_wait import lock_ledger
from db.migrator.source import Migration, checksum_of, require_version

# Returns the contents that a migration's up file may have had, in any order; nothing if unknown.
OldTexts = Callable[[Migration], Iterable[bytes]]
_MAY_BE_SHARED = (
    "may belong to another program that shares this ledger; nothing was changed. Remove the setting ignore-missing if"
    " this ledger is not shared"
)


@dataclass(frozen=True)
class Repair:
    """A corrected row. `action` is checksum, mark-applied, moved or forget; `detail` is the reason in words."""

    version: int
    name: str
    action: str
    detail: str


def repair_checksums(
    conninfo: str,
    migrations: Sequence[Migration],
    old_texts: OldTexts,
    *,
    versions: Sequence[int] = (),
    dry_run: bool = False,
    wait_seconds: float = 30.0,
) -> tuple[Repair, ...]:
    """Accept the checksums of files that were changed harmlessly, in one transaction, and return the repairs.

    `versions` limits this to some migrations; empty means all. Raises Unproven, and changes nothing, if one of the
    changes is not provably harmless.
    """
    by_version = {m.version: m for m in migrations}
    for version in versions:
        require_version(version, migrations)
    with _ledger(conninfo, wait_seconds) as (connection, ledger):
        repairs = []
        for row in ledger.rows(connection):
            migration = by_version.get(row.version)
            if migration is None or row.checksum == migration.checksum:
                continue
            if versions and row.version not in versions:
                continue
            detail = _proof(migration, row, old_texts(migration))
            repairs.append(Repair(row.version, migration.name, "checksum", f"only {detail} differ"))
            if not dry_run:
                connection.execute(ledger.set_checksum(migration).encode())
        return tuple(repairs)


def mark_applied(
    conninfo: str,
    migrations: Sequence[Migration],
    version: int,
    *,
    ignore_missing: bool = False,
    wait_seconds: float = 30.0,
) -> Repair:
    """Record that a dirty or pending migration was done by hand.

    Raises Unproven if it is applied already, or under another number. With `ignore_missing`, a row without a file may
    be another program's, so it is not taken for the migration.
    """
    migration = require_version(version, migrations)
    with _ledger(conninfo, wait_seconds) as (connection, ledger):
        row = ledger.row(connection, version)
        if row is None:
            if not ignore_missing:
                _refuse_renumbered(ledger.rows(connection), migrations, migration)
            connection.execute(ledger.insert(migration).encode())
            return Repair(version, migration.name, "mark-applied", "it was pending and is now applied")
        if row.success:
            raise Unproven(f"migration {version} ({row.description}) is not dirty: it is applied already")
        connection.execute(ledger.set_checksum(migration).encode())
        connection.execute(ledger.mark(version, success=True).encode())
        return Repair(version, migration.name, "mark-applied", "it was dirty and is now applied")


def record_move(
    conninfo: str,
    migrations: Sequence[Migration],
    version: int,
    *,
    ignore_missing: bool = False,
    wait_seconds: float = 30.0,
) -> Repair:
    """Record that pending migration `version` was applied under another number, which has no file any more.

    Raises Unproven unless the ledger has exactly one applied row without a file and with the file's checksum. With
    `ignore_missing`, such a row may be another program's, and is refused too.
    """
    migration = require_version(version, migrations)
    if ignore_missing:
        raise Unproven(f"a row of the same text as {migration.up.path.name} {_MAY_BE_SHARED}")
    with _ledger(conninfo, wait_seconds) as (connection, ledger):
        rows = ledger.rows(connection)
        if any(row.version == version for row in rows):
            raise Unproven(
                f"migration {version} ({migration.description}) is in the ledger already; nothing was changed"
            )
        found = former_rows(rows, migrations, migration)
        if len(found) != 1:
            versions = ", ".join(str(row.version) for row in found)
            what = f"{len(found)} rows ({versions}) that have" if found else "no row that has"
            raise Unproven(
                f"cannot tell which applied migration {migration.up.path.name} was: the ledger has {what} its checksum"
                " and no file; nothing was changed"
            )
        connection.execute(ledger.move(found[0].version, migration).encode())
        return Repair(version, migration.name, "moved", f"it was applied as version {found[0].version}")


def forget(
    conninfo: str,
    migrations: Sequence[Migration],
    version: int,
    *,
    ignore_missing: bool = False,
    wait_seconds: float = 30.0,
) -> Repair:
    """Delete the row of a dirty migration that was undone by hand, or of one whose file no longer exists.

    Raises Unproven for any other migration; an applied one is reverted by its down file. With `ignore_missing`, a row
    without a file may be another program's, and is refused too.
    """
    with _ledger(conninfo, wait_seconds) as (connection, ledger):
        row = _row(ledger, connection, version)
        migration = next((m for m in migrations if m.version == version), None)
        if migration is None and ignore_missing:
            raise Unproven(f"migration {version} ({row.description}) has no file, so it {_MAY_BE_SHARED}")
        if row.success and migration is not None:
            raise Unproven(
                f"migration {version} ({row.description}) is applied and has its file; without its row it would"
                " be applied again. Revert it with `migrate down`"
            )
        connection.execute(ledger.delete(version).encode())
        name = f"{version}_{row.description.replace(' ', '_')}" if migration is None else migration.name
        detail = "it was applied and has no file" if row.success else "it was dirty and is now pending"
        return Repair(version, name, "forget", detail)


@contextmanager
def _ledger(conninfo: str, wait_seconds: float) -> Iterator[tuple[Connection, Ledger]]:
    """Open the ledger in a transaction, locked against all other migrators including sqlx-cli."""
    with migration_lock(conninfo, wait_seconds) as session:
        connection = session.connection
        with connection.transaction():
            ledger = Ledger.find(connection)
            if ledger is None:
                raise Unproven(f"{describe_absence(connection)}; there is nothing to repair")
            lock_ledger(connection, ledger, wait_seconds)
            yield connection, ledger


def former_rows(
    rows: Iterable[LedgerRow], migrations: Iterable[Migration], migration: Migration
) -> list[LedgerRow]:
    """Return the applied rows without a file that have the migration's checksum."""
    versions = {m.version for m in migrations}
    return [
        row
        for row in rows
        if row.success and row.version not in versions and row.checksum == migration.checksum
    ]


def _refuse_renumbered(
    rows: Iterable[LedgerRow], migrations: Iterable[Migration], migration: Migration
) -> None:
    if former := former_rows(rows, migrations, migration):
        raise Unproven(
            f"{migration.up.path.name} was applied as version {former[0].version}, whose row would stay without a file;"
            f" run `groundwork migrate repair --moved {migration.version}` instead. If another program keeps its"
            " migrations in this ledger too, set ignore-missing"
        )


def _proof(migration: Migration, row: LedgerRow, old_texts: Iterable[bytes]) -> str:
    """Describe the harmless difference. Raises Unproven if it is not harmless or the old text is unknown."""
    file = migration.up.path.name
    old = _text_with(row.checksum, migration, old_texts)
    if old is None:
        raise Unproven(
            f"{file}: the file's history has no text with the applied SHA-384 {row.checksum.hex()[:16]}..., so"
            f" nothing can be proven; nothing was changed. Pass a file with the old text: `migrate repair"
            f" {migration.version} --old-file FILE`"
        )
    if "\0" in old:
        raise Unproven(
            f"{file}: the applied text contains a NUL byte, so the server may have run only a part of it; nothing was"
            f" changed. Look at what it did, remove the file, run `migrate repair --forget {row.version}`, and put what"
            " is missing into a new migration"
        )
    line = first_difference(old, migration.up.sql)
    if line is not None:
        raise Unproven(
            f"{file}:{line}: this differs from what was applied in more than line ends, comments or blanks; nothing"
            " was changed. Restore the file and put the change into a new migration"
        )
    return describe_difference(old, migration.up.sql)


def _text_with(checksum: bytes, migration: Migration, old_texts: Iterable[bytes]) -> str | None:
    now = migration.up.path.read_bytes()
    ignored_chars = migration.up.ignored_chars
    if checksum_of(now, ignored_chars) != migration.checksum:
        raise SourceError(f"{migration.up.path.name} was edited just now; run the same command again")
    for raw in (now, *old_texts):
        if (text := text_of(checksum, raw, ignored_chars)) is not None:
            return text
    return None


def _row(ledger: Ledger, connection: Connection, version: int) -> LedgerRow:
    row = ledger.row(connection, version)
    if row is None:
        raise Unproven(f"the ledger has no row of version {version}, so there is nothing to repair")
    return row
