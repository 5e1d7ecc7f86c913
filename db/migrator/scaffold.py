"""Begins a migration: the next free number, and an up and a down file to be filled in."""

from __future__ import annotations

import re
from pathlib import Path

from db.migrator.errors import SourceError
from db.migrator.source import NO_TRANSACTION, read_source

_NAME = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")


def new_migration(folder: Path, name: str, *, no_transaction: bool = False) -> tuple[Path, Path]:
    """Write NNNN_name.up.sql and .down.sql, and return their paths. SourceError for a name that is none."""
    name = name.strip().lower().replace(" ", "_").replace("-", "_")
    if not _NAME.fullmatch(name):
        raise SourceError(
            f"{name!r} is no name for a migration; use letters, digits and underscores, like `users_email`"
        )
    version = max((m.version for m in read_source(folder)), default=0) + 1
    header = f"{NO_TRANSACTION}\n" if no_transaction else ""
    paths = (folder / f"{version:04}_{name}.up.sql", folder / f"{version:04}_{name}.down.sql")
    for path, purpose in zip(paths, ("What this changes, and why.", "Takes back the up file."), strict=True):
        # "x": a file that came meanwhile is not overwritten.
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{header}-- {purpose}\n")
    return paths
