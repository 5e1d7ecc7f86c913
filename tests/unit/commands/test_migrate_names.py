"""A wrong name on the command line of `groundwork migrate`: one line, exit code 2, and no connection to a database."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cli import main
from ops.errors import Exit

# No server listens there, so a connection attempt would end with exit code 6.
URL = ("--url", "postgresql://migrator:canary@127.0.0.1:9/groundwork")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--to", "7", *URL), "there is no migration of version 7; the newest is 1"),
        (("up", "--to", "7", "--dry-run", *URL), "there is no migration of version 7; the newest is 1"),
        (("down", "--to", "7", "--yes", *URL), "there is no migration of version 7; the newest is 1"),
        (("baseline", "7", *URL), "there is no migration of version 7; the newest is 1"),
        (("repair", "7", *URL), "there is no migration of version 7; the newest is 1"),
        (
            ("repair", "--mark-applied", "7", "--yes", *URL),
            "there is no migration of version 7; the newest is 1",
        ),
        (("lint", "7"), "there is no migration of version 7"),
        (("new", "no name!"), "is not a valid name for a migration"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_an_unknown_version_or_name_is_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "1_a.sql").write_text("SELECT 1")
    line = _refused(capfd, *arguments, "--folder", str(tmp_path))
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["1_a.sql"]


@pytest.mark.parametrize("command", ["status", "up", "down", "repair", "lint", "new"])
def test_a_missing_folder_is_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    rest = {"down": ["--yes", *URL], "lint": [], "new": ["a"]}.get(command, URL)
    line = _refused(capfd, command, "--folder", str(tmp_path / "typo"), *rest)
    assert f"cannot read the migrations folder {tmp_path / 'typo'}" in line


def _refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the only line of output of a command that exits with 2, besides the name of the database."""
    with pytest.raises(SystemExit) as over:
        main(["migrate", *arguments])
    out, err = capfd.readouterr()
    assert (over.value.code, out) == (Exit.USAGE, "")
    (line,) = [line for line in err.splitlines() if not line.startswith("database: ")]
    assert line.startswith("groundwork: ")
    return str(line)
