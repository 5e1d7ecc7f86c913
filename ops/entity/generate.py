"""Write the files of a new entity: all of them, or none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from db.migrator.source import newest_version
from infra.atomic_write import put
from ops.entity import python, sql
from ops.entity.field import refuse
from ops.entity.specification import Specification
from ops.errors import OpsError

# Not `python -m ruff`, which starts an interpreter first: ten times the time of formatting a file.
_RUFF = Path(sys.executable).with_name("ruff")
# The generated lines are inserted before these.
_END_OF_ENTITIES = ")\nFEEDS: "
_IMPORT_IN_ACCESS = "from db.entities import ENTITIES\n"
_ATTRIBUTE_IN_ACCESS = "        caches: dict[str, AsyncDroppable] = {\n"
_IMPORT_IN_MODELS = "\nimport msgspec\n"


def generated(root: Path, entity: Specification) -> dict[Path, str]:
    """Return the new text of every file that the entity adds or changes.

    Raise OpsError if a file that it adds exists, or if the place for an insertion is not found.
    """
    db = root / "db"
    newest = newest_version(db / "migrations")
    migration = db / "migrations" / f"{(newest or 0) + 1:04}_{entity.plural}"
    added = {
        Path(f"{migration}.up.sql"): sql.migration_up(entity),
        Path(f"{migration}.down.sql"): sql.migration_down(entity),
        db / "queries" / f"{entity.plural}.sql": sql.queries(entity),
        db / "_async" / f"{entity.plural}.py": python.repository(entity),
        root / "tests" / "entities" / f"{entity.plural}.py": python.case(entity),
    }
    for path in added:
        if path.exists():
            raise refuse(f"{path.relative_to(root)} exists already; choose another name")
    line = f'    Entity("{entity.name}", "{entity.plural}"),\n'
    repository = f"Async{entity.model}Repository"
    attribute = f"        self.{entity.plural} = {repository}(self.pool, self.cache, cache.namespace)\n"
    imported = f"from db._async.{entity.plural} import {repository}\n"
    models = python.models(entity)
    needed = "".join(f"{each}\n" for each in python.imports(models))
    changed = {
        db / "entities.py": ((_END_OF_ENTITIES, line),),
        db / "_async" / "access.py": ((_IMPORT_IN_ACCESS, imported), (_ATTRIBUTE_IN_ACCESS, attribute)),
        db / "models.py": ((_IMPORT_IN_MODELS, needed),),
    }
    files = dict(added)
    for path, insertions in changed.items():
        text = path.read_text("utf-8")
        for place, inserted in insertions:
            if text.count(place) != 1:
                raise OpsError(
                    f"cannot insert {inserted.strip()!r} into {path.relative_to(root)}: the line"
                    f" {place.strip().splitlines()[-1]!r}, which marks the place, is missing or repeated; restore it"
                )
            text = text.replace(place, inserted + place)
        files[path] = text
    files[db / "models.py"] = files[db / "models.py"].rstrip("\n") + "\n" + models
    return {path: _formatted(root, path, text) for path, text in files.items()}


def _formatted(root: Path, path: Path, text: str) -> str:
    """Return Python code formatted as by `make fix`, and other text unchanged."""
    if path.suffix != ".py":
        return text
    for arguments in (("check", "--select=I", "--fix-only"), ("format",)):
        command = [_RUFF, *arguments, "--quiet", f"--stdin-filename={path}", "-"]
        try:
            done = subprocess.run(command, cwd=root, input=text, capture_output=True, text=True, check=False)
        except OSError as error:
            raise _unformatted(root, path, f"{error.filename}: {error.strerror}") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise _unformatted(root, path, lines[-1])
        text = done.stdout
    return text


def _unformatted(root: Path, path: Path, reason: str) -> OpsError:
    return OpsError(f"cannot format {path.relative_to(root)} with ruff: {reason}; run `make .venv`")


def write_all(files: Mapping[Path, str]) -> None:
    """Write the files. If one cannot be written, restore all of them and raise OpsError."""
    before = {path: path.read_text("utf-8") if path.exists() else None for path in files}
    written = []
    try:
        for path, text in files.items():
            written.append(path)
            put(path, text)
    except BaseException as error:
        for path in written:
            _restore(path, before[path])
        if isinstance(error, OSError):
            raise OpsError(f"cannot write {error.filename}: {error.strerror}; nothing was changed") from error
        raise


def _restore(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    elif path.read_text("utf-8") != text:
        put(path, text)
