"""Build the wheel groundwork-client: the data access for applications in other repositories.

The wheel has one import name, `groundwork_client`, so that it cannot collide with an application's own `db` or `cache`.
It contains client/ and every module that client/ imports, directly or not. Their imports are rewritten.

The version contains the number of the newest migration and a hash of the content, such as 0.1.0+schema12.g1a2b3c4d, so
that pip replaces an older build.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
IMPORT_NAME = "groundwork_client"
# The packages of this repository that the client may contain.
PACKAGES = ("cache", "client", "db", "infra")
# The names of packages and modules in the wheel, where they differ from those in the repository.
MOVED = {"client": "", "db.errors": "errors", "db.models": "models", "infra.spec": "spec"}
DATA = ("db/queries/*.sql", "db/migrations/*.sql")
# The requirements of the client, with the versions of pyproject.toml.
REQUIREMENTS = ("cryptography", "msgspec", "prometheus-client", "psycopg", "psycopg-pool", "redis")
# Without this time stamp, setuptools writes the current time into the wheel, and equal sources give different wheels.
_EPOCH = "1577836800"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the files of client/ and of all modules that they import, by module name."""
    found: dict[str, Path] = {}
    waiting = [_module_name(path, root) for path in sorted((root / "client").rglob("*.py"))]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, root)
        if path is None or name in found:
            continue
        found[name] = path
        # Importing a module imports its packages first.
        waiting += [name.rpartition(".")[0], *_imported(ast.parse(path.read_text(encoding="utf-8")))]
    # `infra` contains only a docstring, and `infra.spec` has another name in the wheel.
    found.pop("infra", None)
    return found


def rewritten(source: str) -> str:
    """Return a module's source in which the names of this repository's modules begin with `groundwork_client`.

    This includes imports, strings that are the name of a module (for imports on first use), and names in docstrings.
    """
    lines = source.splitlines(keepends=True)
    edits: set[tuple[int, int, str]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_ours(node.module or ""):
            edits.add((node.lineno, node.col_offset + len("from "), node.module or ""))
        elif isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
            raise SystemExit(f"cannot rewrite {ast.unparse(node)!r}; write it as `from ... import ...`")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_module(node.value):
            edits.add((node.lineno, node.col_offset + 1, node.value))
    for row, column, name in sorted(edits, reverse=True):
        line = lines[row - 1]
        if not line.startswith(name, column):
            raise SystemExit(
                f"cannot rewrite {name!r} in {line.strip()!r}; write it on one line, without a prefix"
            )
        lines[row - 1] = line[:column] + _renamed(name) + line[column + len(name) :]
    return re.sub(r"(?<=`)(db|cache)\.[\w.]+", lambda match: _renamed(match[0]), "".join(lines))


def write_tree(folder: Path) -> None:
    """Write the sources of the wheel to `folder`, with a pyproject.toml."""
    found = modules()
    for name, path in found.items():
        target = folder / _renamed(name).replace(".", "/")
        target = target / "__init__.py" if path.name == "__init__.py" else target.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
    for pattern in DATA:
        for path in sorted(ROOT.glob(pattern)):
            target = folder / IMPORT_NAME / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (folder / IMPORT_NAME / "py.typed").touch()
    shutil.copyfile(ROOT / "client" / "README.md", folder / "README.md")
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    (folder / "pyproject.toml").write_text(_pyproject(_version(folder)), encoding="utf-8")


def build(output: Path) -> Path:
    """Build the wheel in the folder `output` and return its path. Deletes older builds there."""
    with TemporaryDirectory() as temporary:
        tree = Path(temporary)
        write_tree(tree)
        output.mkdir(parents=True, exist_ok=True)
        for older in output.glob(f"{IMPORT_NAME}-*.whl"):
            older.unlink()
        code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
        process = subprocess.run(
            [sys.executable, "-c", code, str(output.resolve())],
            cwd=tree,
            env=os.environ | {"SOURCE_DATE_EPOCH": _EPOCH},
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise SystemExit(f"cannot build the client's wheel:\n{process.stdout}{process.stderr}")
    (wheel,) = output.glob(f"{IMPORT_NAME}-*.whl")
    return wheel


def _version(tree: Path) -> str:
    """Return the version of a wheel with the files of `tree`."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    content = hashlib.sha256()
    for path in files:
        content.update(f"{path.relative_to(tree)} {path.stat().st_size}\n".encode() + path.read_bytes())
    content.update(_pyproject("").encode())
    newest = max(int(path.name.partition("_")[0]) for path in files if path.parent.name == "migrations")
    # The letter keeps a hash of digits from being read as a number.
    return f"{_project()['version']}+schema{newest}.g{content.hexdigest()[:8]}"


def _pyproject(version: str) -> str:
    project = _project()
    required = [line for line in project["dependencies"] if _name_of(line) in REQUIREMENTS]
    return f"""\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "groundwork-client"
version = "{version}"
description = "Cached, typed data access to the Postgres and Redis of a groundwork stack."
readme = "README.md"
requires-python = "{project["requires-python"]}"
license = "{project["license"]}"
license-files = ["LICENSE"]
dependencies = {required!r}

[project.optional-dependencies]
aws = {project["optional-dependencies"]["aws-access"]!r}

[project.entry-points.pytest11]
groundwork = "{IMPORT_NAME}.testing"

[tool.setuptools.packages.find]
include = ["{IMPORT_NAME}*"]

[tool.setuptools.package-data]
"*" = ["py.typed", "*.sql"]
"""


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9-]", requirement, maxsplit=1)[0]


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module imports, at its start or later. Some are attributes instead of modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_module(node.value):
            yield node.value


def _is_module(text: str) -> bool:
    """Return whether a string is the dotted name of one of this repository's modules."""
    return re.fullmatch(r"\w+(\.\w+)+", text) is not None and _file_of(text, ROOT) is not None


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def _renamed(name: str) -> str:
    for package, place in MOVED.items():
        if name == package or name.startswith(f"{package}."):
            name = place + name.removeprefix(package)
    return f"{IMPORT_NAME}.{name.removeprefix('.')}".removesuffix(".")


def _file_of(name: str, root: Path) -> Path | None:
    if not name or not _is_ours(name):
        return None
    base = root / name.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


if __name__ == "__main__":
    wheel = build(ROOT / "dist").relative_to(ROOT)
    print(f"built {wheel}; install it in an application's environment:\n    pip install {wheel}")
