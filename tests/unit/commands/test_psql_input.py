"""`groundwork psql` refuses a NUL byte in its input before anything runs. psql alone cuts the line off there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ops.commands.container_tools import _reads_commands
from ops.errors import Exit
from tests.cases import in_case
from tests.promises import promise

ROOT = Path(__file__).parents[3]
# Stands for psql in the container: it prints its input.
_PSQL = """
import sys
from ops.commands import container_tools
container_tools._primary = lambda *_: "gw-postgres"
container_tools._run_psql = lambda command, container: container_tools.os.execvp("cat", ["cat"])
from ops.cli import main
main(["psql", *sys.argv[1:]])
"""
GOOD = b"SELECT 1;\n" * 200_000 + "SELECT 'ü';".encode()
BAD = b"DELETE FROM t\n--\0\nWHERE false;\n"


def psql(
    tmp_path: Path, given_as: str, content: bytes, *arguments: str
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", _PSQL, *arguments]
    if given_as == "pipe":
        return subprocess.run(command, cwd=ROOT, input=content, capture_output=True, check=False, timeout=60)
    path = tmp_path / "input.sql"
    path.write_bytes(content)
    with path.open("rb") as file:
        return subprocess.run(command, cwd=ROOT, stdin=file, capture_output=True, check=False, timeout=60)


@promise("`groundwork psql` refuses input with a NUL byte before anything runs")
@pytest.mark.parametrize("given_as", ["file", "pipe"])
@pytest.mark.parametrize("before", [b"", b"SELECT 1;\n" * 200_000], ids=["first chunk", "later chunk"])
def test_a_nul_byte_is_refused_with_its_line(tmp_path: Path, given_as: str, before: bytes) -> None:
    done = psql(tmp_path, given_as, before + BAD)
    assert (done.returncode, done.stdout) == (Exit.ERROR, b"")
    line = before.count(b"\n") + 2
    assert done.stderr.startswith(f"groundwork: line {line} of the input has a NUL byte".encode())


@pytest.mark.parametrize("given_as", ["file", "pipe"])
def test_psql_gets_all_of_the_input(tmp_path: Path, given_as: str) -> None:
    done = psql(tmp_path, given_as, GOOD)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == GOOD


@promise("`groundwork psql` refuses input with a NUL byte before anything runs", control=True)
def test_the_data_of_a_copy_may_have_nul_bytes(tmp_path: Path) -> None:
    done = psql(tmp_path, "file", BAD, "-c", "COPY t FROM STDIN (FORMAT binary)")
    assert (done.returncode, done.stdout) == (0, BAD)


def test_only_commands_from_standard_input_are_checked() -> None:
    cases: list[tuple[str, bool]] = [
        ("", True),
        ("-v ON_ERROR_STOP=1 -X", True),
        ("--variable=x=c -F l -Aqt -1", True),
        ("-f -", True),
        ("--fil=-", True),
        ("-tAc SELECT", False),
        ("--comm=SELECT", False),
        ("-f a.sql", False),
        ("-l", False),
        ("--help=commands", False),
        ("--no-such-option", False),
    ]
    for arguments, reads in cases:
        with in_case(arguments, reads):
            assert _reads_commands(arguments.split()) is reads
