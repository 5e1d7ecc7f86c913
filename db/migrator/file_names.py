"""Find files that look like migrations, but that the migrator and sqlx-cli ignore, reject, or take for another kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from db.migrator.errors import SourceError
from db.migrator.lint import LintFinding
from db.migrator.source import version_of

_RULE = "file-name"
# Names of Flyway, Diesel and golang-migrate begin like this.
_LOOKS_NUMBERED = re.compile(r"[vV]?[0-9]")
_DIRECTION = re.compile(r"\.(?:up|down)\.sql", re.IGNORECASE)
_NAMED = "name it like 0007_what_it_does.up.sql"


def misnamed_files(folder: Path) -> tuple[LintFinding, ...]:
    """Return the findings about names in a folder of migrations. Raises OSError if the folder cannot be read."""
    found = ((path, _problem(path)) for path in sorted(folder.iterdir()))
    return tuple(LintFinding(path, 1, _RULE, problem) for path, problem in found if problem is not None)


def _problem(path: Path) -> str | None:
    name = path.name
    if path.is_dir():
        if _LOOKS_NUMBERED.match(name) and any(_sql_files(path)):
            return "the files in this folder are ignored; move them up, and name them like 0007_what_it_does.up.sql"
        return None
    if not name.lower().endswith(".sql"):
        return None
    if path.is_symlink() and not path.exists():
        target = path.readlink()
        return f"this is a link to {target}, which does not exist; restore that file, or remove the link"
    if not name.endswith(".sql"):
        return f"this file is ignored, because the suffix is not .sql in lower case; {_NAMED}"
    prefix, separator, rest = name.partition("_")
    if not separator:
        is_numbered = _LOOKS_NUMBERED.match(name) is not None
        return (
            f"this file is ignored, because no underscore follows the version; {_NAMED}"
            if is_numbered
            else None
        )
    try:
        version_of(path)
    except SourceError:
        return f"this file is rejected, because {prefix!r} is not a version; {_NAMED}"
    direction = _DIRECTION.search(f"_{rest}")
    if direction is not None and direction.end() == len(rest) + 1 and direction[0] != direction[0].lower():
        return f"this file is a migration without a direction, because {direction[0]} is not in lower case; {_NAMED}"
    return None


def _sql_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name.lower().endswith(".sql"))
