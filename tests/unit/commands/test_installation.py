"""Commands without the extras, without a checkout, and with an ASCII locale: one line, and no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops import cli
from ops.errors import Exit
from tests.in_turns import Command, run_in_turns
from tests.promises import promise

ROOT = Path(__file__).parents[3]
# The packages of the extras infra and aws. A module that is None in sys.modules cannot be imported.
_WITHOUT = """
import sys
for name in ("yaml", "rich", "pulumi", "pulumi_docker", "pulumi_aws", "boto3"):
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files and migrations of the packages, as in site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    for name in ("ops", "infra", "db", "cache"):
        for path in (ROOT / name).rglob("*"):
            if path.suffix in {".py", ".sql", ".json"}:
                target = folder / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    return folder


def run(folder: Path, *commands: Command) -> list[tuple[int, str, str]]:
    """Run each command, with variables of its own. Return the exit codes and the two outputs."""
    dropped = ("PYTHONPATH", "DATABASE_URL", "REDIS_URL")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    folders = {"GROUNDWORK_CACHE": str(folder / "tools"), "GROUNDWORK_STATE": str(folder / "state")}
    env |= {"PYTHONPATH": str(folder), **folders}
    return run_in_turns(*commands, folder=folder, environment=env, prelude=_WITHOUT)


@promise("a command that needs more than is installed says so in one line")
def test_a_missing_package_or_checkout_is_one_line(installed: Path) -> None:
    cases = [
        (("up",), "needs the Python package"),
        (("psql",), "needs the Python package"),
        (("toolchain",), "needs the Python package 'rich'"),
        (("prune",), "needs a checkout of groundwork"),
        (("new", "entity", "team", "--field", "name:text"), "needs a checkout of groundwork"),
        (("toolchain", "--check"), "needs a checkout of groundwork"),
        (
            ("migrate", "plan", "--from-scratch", "--folder", "one"),
            "needs a checkout of groundwork with Docker",
        ),
        (("sql", "check"), "needs a checkout of groundwork with Docker"),
        (("test-servers", "true"), "needs a checkout of groundwork with Docker"),
    ]
    (installed / "one").mkdir()
    (installed / "one" / "1_a.sql").write_text("SELECT 1;")
    ended = run(installed, *((arguments, {}) for arguments, _ in cases))
    for (arguments, said), (code, out, err) in zip(cases, ended, strict=True):
        lines = [line for line in err.splitlines() if not line.startswith("database: ")]
        assert len(lines) == 1, (arguments, err)
        assert (code, out) == (Exit.ERROR, ""), arguments
        assert lines[0].startswith("groundwork: this command "), arguments
        assert said in lines[0], arguments


def test_without_a_checkout_migrate_needs_a_folder_and_a_database(installed: Path, tmp_path: Path) -> None:
    """Never the migrations and the stack of groundwork, which are not those of the project in the current folder."""
    (tmp_path / "1_a.sql").write_text("SELECT 1")
    status = ("migrate", "status")
    without, within = run(installed, (status, {}), ((*status, "--folder", str(tmp_path)), {}))
    assert (without[0], "migrations folder" in without[2]) == (Exit.USAGE, True), without
    assert within == [
        Exit.USAGE,
        "",
        "groundwork: no database is given; pass --url, or set DATABASE_URL in the environment or in a file .env\n",
    ]


@promise("a command that needs more than is installed says so in one line")
def test_without_a_checkout_a_command_of_servers_asks_for_their_urls(installed: Path) -> None:
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("seed",), {}, "no database is given; pass --url, or set DATABASE_URL in the environment"),
        (
            ("import", "gharchive", "-"),
            {},
            "no database is given; pass --url, or set DATABASE_URL in the environment",
        ),
        (("tokens", "rotate"), {}, "no keys are given; set GROUNDWORK_TOKEN_KEYS in the environment"),
        (("cache", "stats"), {}, "no Redis is given; set REDIS_URL in the environment"),
        (
            ("cache", "warm"),
            {"REDIS_URL": "redis://localhost:1"},
            "no database is given; set DATABASE_URL in the environment",
        ),
    ]
    ended = run(installed, *((arguments, variables) for arguments, variables, _ in cases))
    for (arguments, _, said), (code, out, err) in zip(cases, ended, strict=True):
        (line,) = [line for line in err.splitlines() if not line.startswith("Redis: ")]
        assert (code, out, line) == (Exit.USAGE, "", f"groundwork: {said}"), arguments


def test_without_a_checkout_the_redis_of_an_application_is_used_as_it_is(installed: Path) -> None:
    """In a checkout, the stack's user ops may replace the URL's user."""
    ((code, _, err),) = run(installed, (("cache", "stats"), {"REDIS_URL": "redis://app:x@localhost:1"}))
    assert (code, "cannot reach Redis" in err) == (Exit.UNREACHABLE, True), err


def test_a_missing_module_of_groundwork_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: object) -> None:
        raise ModuleNotFoundError("No module named 'ops.lost'", name="ops.lost")

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(ModuleNotFoundError):
        cli.main([])


ASCII_OUTPUT = {"PYTHONIOENCODING": "ascii"}
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(
    ("variables", "arguments", "code"),
    [
        (ASCII_OUTPUT, ("migrate", "lint", "--folder", "ü"), Exit.MISMATCH),
        (ASCII_OUTPUT, ("migrate", "lint", "--folder", "ö"), Exit.USAGE),
        (ASCII_LOCALE, ("migrate", "lint", "--folder", "ü", "--json"), Exit.MISMATCH),
        (ASCII_LOCALE, ("import", "gharchive", "--dry-run", "ü/é.json"), Exit.ERROR),
    ],
    ids=["text", "refusal", "JSON and locale", "refusal and locale"],
)
def test_a_name_that_is_not_ascii_is_escaped_where_the_terminal_is(
    tmp_path: Path, variables: dict[str, str], arguments: tuple[str, ...], code: Exit
) -> None:
    (tmp_path / "ü").mkdir()
    (tmp_path / "ü" / "1_ß.up.sql").write_text("CREATE TABLE ä (id int);")
    (tmp_path / "ü" / "é.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
