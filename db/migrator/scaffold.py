"""Create the files of a new migration, with the next free number or a timestamp."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

from db.migrator.errors import SourceError, UnknownMigration
from db.migrator.phase import DEFAULT, Phase
from db.migrator.source import NO_TRANSACTION, Migration, newest_version, read_source

_NAME = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
# With a version and a suffix, a file's name has at most 255 bytes.
_NAME_LENGTH = 200
# sqlx's versions that are timestamps.
_TIMESTAMP = "%Y%m%d%H%M%S"
Versioning = Literal["inferred", "timestamp", "sequential"]


def new_migration(
    folder: Path,
    name: str,
    *,
    no_transaction: bool = False,
    phase: Phase = DEFAULT,
    versioning: Versioning = "inferred",
    is_reversible: bool = True,
    ignored_chars: str = "",
) -> tuple[Path, ...]:
    """Create VERSION_name.up.sql and VERSION_name.down.sql, or VERSION_name.sql, and return the paths.

    The inferred version is a timestamp if the newest file has one, and otherwise the next number. If an interrupted
    call left only the up file, the same call creates the missing down file. Raises UnknownMigration for an invalid
    name.
    """
    name = name.strip().lower().replace(" ", "_").replace("-", "_")
    if not _NAME.fullmatch(name):
        raise UnknownMigration(
            f"{name!r} is not a valid name for a migration; use letters, digits and underscores, like `users_email`"
        )
    if len(name) > _NAME_LENGTH:
        raise UnknownMigration(
            f"the name of the migration has {len(name)} characters; use at most {_NAME_LENGTH}"
        )
    header = f"{NO_TRANSACTION}\n" if no_transaction else ""
    up = header + (f"-- phase: {phase}\n" if phase != DEFAULT else "") + "-- What this changes, and why.\n"
    newest = max(read_source(folder, ignored_chars), key=lambda m: m.version, default=None)
    if newest is not None and newest.down is None and is_reversible and _is_begun(newest, name, up):
        up_path = newest.up.path
    else:
        version = _next_version(newest_version(folder), versioning)
        up_path = folder / f"{version}_{name}.{'up.sql' if is_reversible else 'sql'}"
        _write(up_path, up)
    if not is_reversible:
        return (up_path,)
    down_path = folder / f"{up_path.name.removesuffix('.up.sql')}.down.sql"
    _write(down_path, f"{header}-- Takes back the up file.\n")
    return up_path, down_path


def _next_version(newest: int | None, versioning: Versioning) -> str:
    then = None if newest is None else _moment(newest)
    if versioning == "timestamp" or (versioning == "inferred" and then is not None):
        moment = datetime.now(UTC)
        # After the newest file, also if that was created in this second, or by a clock that is ahead.
        if then is not None:
            moment = max(moment, then + timedelta(seconds=1))
        return moment.strftime(_TIMESTAMP)
    return f"{1 if newest is None else newest + 1:04}"


def _moment(version: int) -> datetime | None:
    """Return the moment that a version states, or None if it is not a timestamp."""
    digits = str(version)
    try:
        # strptime accepts fewer digits, too.
        return datetime.strptime(digits, _TIMESTAMP).replace(tzinfo=UTC) if len(digits) == 14 else None
    except ValueError:
        return None


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
