"""Create the files of a new migration, with the next free number."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import NamedTemporaryFile

from db.migrator.errors import SourceError, UnknownMigration
from db.migrator.phase import DEFAULT, Phase
from db.migrator.source import NO_TRANSACTION, Migration, read_source

_NAME = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")


def new_migration(
    folder: Path, name: str, *, no_transaction: bool = False, phase: Phase = DEFAULT
) -> tuple[Path, Path]:
    """Create NNNN_name.up.sql and NNNN_name.down.sql, and return their paths.

    If an interrupted call left only the up file, the same call creates the missing down file. Raises UnknownMigration
    for an invalid name.
    """
    name = name.strip().lower().replace(" ", "_").replace("-", "_")
    if not _NAME.fullmatch(name):
        raise UnknownMigration(
            f"{name!r} is not a valid name for a migration; use letters, digits and underscores, like `users_email`"
        )
    header = f"{NO_TRANSACTION}\n" if no_transaction else ""
    up = header + (f"-- phase: {phase}\n" if phase != DEFAULT else "") + "-- What this changes, and why.\n"
    newest = max(read_source(folder), key=lambda m: m.version, default=None)
    if newest is not None and newest.down is None and _is_begun(newest, name, up):
        up_path = newest.up.path
    else:
        version = 1 if newest is None else newest.version + 1
        up_path = folder / f"{version:04}_{name}.up.sql"
        _write(up_path, up)
    down_path = folder / f"{up_path.name.removesuffix('.up.sql')}.down.sql"
    _write(down_path, f"{header}-- Takes back the up file.\n")
    return up_path, down_path


def _is_begun(migration: Migration, name: str, text: str) -> bool:
    return migration.up.path.name.endswith(f"_{name}.up.sql") and migration.up.sql == text


def _write(path: Path, text: str) -> None:
    # Atomic, and never over a file that was created in the meantime.
    try:
        with NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".new", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            Path(file.name).chmod(0o644)
            path.hardlink_to(file.name)
    except FileExistsError as exc:
        raise SourceError(f"{path.name} was created in the meantime; run the same command again") from exc
    except OSError as exc:
        raise SourceError(f"cannot write {path}: {exc.strerror}; run the same command again") from exc
