"""docs/schema.md lists all files to delete or edit to remove the example: the other modules do not need it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.documentation.pages import ROOT

PAGE = ROOT / "docs" / "schema.md"
PACKAGES = ("cache", "client", "db", "infra", "ops")
# Prints a line for each name that a module imports, at its top or in a function, and that does not exist.
IMPORTS = """
import ast, importlib, pkgutil, sys
from pathlib import Path

def problem(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def find(module, name=None):
    found = importlib.import_module(module)
    if name is not None and not hasattr(found, name):
        importlib.import_module(f"{module}.{name}")

packages = sys.argv[1:]
for path in sorted(each for package in packages for each in Path(package).rglob("*.py")):
    if path.name == "__main__.py":
        continue
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    wanted = [(module, None)]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in packages:
            wanted += [(node.module, alias.name) for alias in node.names]
    if module == "ops.cli":
        wanted += [place[:2] for place in importlib.import_module(module).COMMANDS.values()]
    for each in dict.fromkeys(wanted):
        if found := problem(find, *each):
            print(f"{path}: {found}")
"""


def _without(pattern: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, "", text)


def _models(text: str) -> str:
    """Return db/models.py with its imports, its type variable and Page."""
    kept = [
        node
        for node in ast.parse(text).body
        if not isinstance(node, ast.ClassDef | ast.Assign) or getattr(node, "name", "Page") == "Page"
    ]
    constants = r"(?m)^[A-Z]+_SCHEMA = .*\n"
    return re.sub(constants, "", ast.unparse(ast.Module(kept, [])) + "\n")


_REPOSITORIES = r"(?:users|organizations|repositories|activities)\b"
# What the page says to do with a file, for each file on which another module depends.
EDITS: dict[str, Callable[[str], str]] = {
    "db/entities.py": _without(r'(?m)^    Entity\(".*\n|(?<=^FEEDS: dict\[str, str\] = \{).*(?=\})'),
    "db/models.py": _models,
    "db/_async/access.py": _without(rf"(?m)^(?:from db\._a?sync\.| +self\.){_REPOSITORIES}.*\n"),
    "db/upkeep.py": lambda text: text.partition("UPKEEP: ")[0] + "UPKEEP: tuple[Upkeep, ...] = ()\n",
    "db/seed.py": lambda text: "def load_sample_data(conninfo, *, until=None):\n    return {}\n",
    "db/warming.py": lambda text: "Progress = object\n\n\nclass Warming:\n    pass\n",
    "ops/chaos/load.py": lambda text: "class DataAccessLoad:\n    pass\n\n\ndef delete_rows(): pass\n",
    "ops/cli.py": _without(r'(?m)^    "(?:tokens|import)": .*\n'),
    "pyproject.toml": _without(
        r"\[\[tool\.importlinter\.contracts\]\]\n[^\[]*\[\"ops\.gharchive\"\]\n[^\[]*\[.*\]\n"
    ),
}


def _listed(action: str) -> list[str]:
    """Return the paths in the first column of the page's table `| action | ... |`."""
    (table,) = re.findall(rf"^\| {action} \|.*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    return [path for row in table.splitlines() for path in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def _copies(path: str) -> list[str]:
    """Return the path, and that of the generated copy if it has one."""
    return [path, path.replace("db/_async/", "db/_sync/")] if path.startswith("db/_async/") else [path]


@pytest.fixture
def stripped(tmp_path: Path) -> Path:
    """A copy of the packages without the files that the page says to delete."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in (each for listed in _listed("delete") for each in _copies(listed)):
        target = tmp_path / path
        if path.startswith("tests/"):
            assert (ROOT / path).exists(), path
        elif path.endswith("/"):
            shutil.rmtree(target)
        else:
            target.unlink()
    return tmp_path


def _edit(tree: Path, *paths: str) -> None:
    for path in (copy for each in paths for copy in _copies(each)):
        old = (tree / path).read_text()
        new = EDITS[path.replace("_sync", "_async")](old)
        assert new != old, path
        (tree / path).write_text(new)


def _missing(tree: Path, *packages: str) -> list[str]:
    """Return what the modules of these packages import although it does not exist."""
    command = [sys.executable, "-W", "ignore", "-c", IMPORTS, *packages]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_all_modules_can_be_imported_without_the_example(stripped: Path) -> None:
    _edit(stripped, *(path for path in _listed("edit") if path in EDITS))
    assert _missing(stripped, *PACKAGES) == []
    settings = tomllib.loads((stripped / "pyproject.toml").read_text())["tool"]["importlinter"]
    modules = [
        name
        for contract in settings["contracts"]
        for key in ("modules", "source_modules", "protected_modules", "allowed_importers")
        for name in contract.get(key, ())
    ]
    places = {name: stripped / name.replace(".", "/") for name in modules}
    absent = [name for name, at in places.items() if not (at.is_dir() or at.with_suffix(".py").exists())]
    assert absent == []


def test_a_file_that_is_not_edited_is_reported(stripped: Path) -> None:
    _edit(stripped, *(path for path in EDITS if path not in ("db/upkeep.py", "ops/cli.py")))
    found = _missing(stripped, "db", "ops")
    assert {line.partition(":")[0] for line in found} >= {"db/upkeep.py", "ops/bootstrap.py", "ops/cli.py"}, (
        found
    )


def test_the_listed_files_exist() -> None:
    listed = [*_listed("delete"), *_listed("edit")]
    assert [path for path in listed if not (ROOT / path).exists()] == []
    assert EDITS.keys() <= {*_listed("edit")}
