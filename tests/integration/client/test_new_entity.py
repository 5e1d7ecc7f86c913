"""The section "A table of your own" of docs/client.md: its commands in a copy of this checkout, and its application."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from db.entities import ENTITIES
from tests.integration.client.conftest import ROOT, Application, make_environment
from tests.promises import promise

SECTION = (ROOT / "docs/client.md").read_text().partition("## A table of your own\n")[2].partition("\n## ")[0]
# What `make` does in the copy. The other steps of `make check` do not depend on the entity, or take too long.
MAKE = {
    "make fix": """\
"$PYTHON" -m ruff check --fix --quiet . && "$PYTHON" -m ruff format --quiet . && "$PYTHON" -m scripts.generate_sync""",
    "make check": """\
"$PYTHON" -c '
import sys
from scripts.check import STEPS, main
names = ("entities", "migrations", "queries", "lint", "words", "format")
sys.exit(main({name: STEPS[name] for name in names}))' &&
"$PYTHON" -m scripts.generate_sync --check &&
"$PYTHON" -m mypy db/_async/access.py db/_sync/access.py""",
    # The tests of the application apply the migration.
    "make up": "true",
    "make client": '"$PYTHON" -m scripts.build_client',
}


def commands() -> list[str]:
    """Return the commands of the section, without the line breaks inside them."""
    lines = "\n".join(re.findall(r"^    (\S.*|  +\S.*)$", SECTION.partition("```python")[0], re.MULTILINE))
    return re.sub(r"\\\n\s*", "", lines).splitlines()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files of this checkout, as a repository of its own."""
    if taken := {entity.name for entity in ENTITIES} & {"team", "note"}:
        pytest.skip(f"this checkout has the entities of the page already: {', '.join(taken)}")
    folder = tmp_path_factory.mktemp("new_entity") / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    if (ROOT / ".mypy_cache").is_dir():
        # mypy compares the files, and analyzes only those that differ.
        shutil.copytree(ROOT / ".mypy_cache", folder / ".mypy_cache")
    return folder


def run(checkout: Path, command: str) -> str:
    """Run a command of the page in the copy, with this environment's programs and the copy's modules."""
    # The command `groundwork` of this environment imports the modules of this checkout.
    script = MAKE.get(command) or command.replace(".venv/bin/groundwork", '"$PYTHON" -m ops.cli')
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "PYTHON": sys.executable,
        "GROUNDWORK_STATE": str(checkout.parent / "state"),
    }
    done = subprocess.run(
        f"git add --all && {script}",
        shell=True, cwd=checkout, env=environment, check=False, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@promise("the steps from `groundwork new entity` to a tested application work as written")
def test_the_walk_of_the_page_ends_in_a_tested_application(
    docker_engine: None, checkout: Path, tmp_path: Path, mypy: Callable[..., tuple[int, str]]
) -> None:
    assert [command.partition(" team ")[0] for command in commands()] == [
        ".venv/bin/groundwork new entity",
        "make fix",
        ".venv/bin/groundwork sql check --update",
        *("make check", "make up", "make client"),
    ]
    printed = [run(checkout, command) for command in commands()]

    written = printed[0].partition("\n\n")[0].splitlines()
    assert "db/_async/teams.py" in written
    assert all((checkout / name).is_file() for name in written)
    (wheel,) = (checkout / "dist").glob("*.whl")
    python = make_environment(tmp_path / "venv", wheel)
    (tmp_path / "application").mkdir()
    application = Application(tmp_path / "application", python, {})
    main, test_main = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    application.write(main=main, test_main=test_main)
    tested = application.run_with_servers("-m", "pytest", "-q", "-W", "error", "-W", "ignore:Using `httpx`")
    assert (tested.returncode, "2 passed" in tested.stdout) == (0, True), tested.stdout + tested.stderr
    code, said = mypy(python, application.folder, "main.py", "test_main.py")
    assert code == 0, said


@promise("a record from Redis is equal to the same record from Postgres, whatever the types of its fields")
def test_the_tests_of_all_entities_pass_for_each_type_of_field(docker_engine: None, checkout: Path) -> None:
    """In the checkout of the previous test, which has the entity `team` already."""
    run(checkout, ".venv/bin/groundwork new entity note --field team_id:ref:teams --field 'parent_id:ref:notes?'"
        " --field body:text --field 'mood:enum(good,bad)?' --field is_open:bool --field points:bigint"
        " --field 'ratio:float?' --field 'scores:int[]?' --field 'extra:json?'")  # fmt: skip
    run(checkout, "make fix")
    tests = "tests/integration/entities tests/integration/schema/test_up_and_down.py"
    tests += " tests/unit/db/test_portable_errors.py"
    printed = run(checkout, f'"$PYTHON" -m pytest -q -n 0 -k "team or note or every_table" {tests}')

    assert re.search(r"\b[2-9]\d passed", printed), printed
