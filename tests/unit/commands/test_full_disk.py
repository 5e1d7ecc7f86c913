"""A full disk while a command prints or writes: one line, exit code 1, and no traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from ops import cli
from ops.errors import Exit
from tests.promises import promise

ROOT = Path(__file__).parents[3]


def groundwork(*arguments: str, out: str) -> subprocess.CompletedProcess[str]:
    with Path(out).open("w") as stdout:
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip


# click writes immediately, print when the interpreter exits.
@promise("a full disk is reported in one line, and the existing file is kept")
@pytest.mark.parametrize(
    "arguments",
    [
        ("completion", "bash"),
        ("policy", "list"),
        ("migrate", "lint", "--no-squawk", "--json", "--folder", "{}"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_output_to_a_full_disk_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    # Otherwise it would exit with 4, because there is no down file.
    (tmp_path / "1_a.sql").write_text("SELECT 1")
    done = groundwork(*(word.format(tmp_path) for word in arguments), out="/dev/full")
    assert done.returncode == Exit.ERROR
    (line,) = done.stderr.splitlines()
    assert line.startswith("groundwork: cannot write a file or the output: No space left on device; ")


def test_a_closed_pipe_is_not_an_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "policy", "list"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_file_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, "no", "/state/rotation.json")

    monkeypatch.setattr(cli.cli, "main", fails)
    with pytest.raises(SystemExit) as over:
        cli.main([])
    assert over.value.code == Exit.ERROR
    assert "(/state/rotation.json)" in capfd.readouterr().err


def test_another_system_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "no", "/x")

    monkeypatch.setattr(cli.cli, "main", fails)
    with pytest.raises(FileNotFoundError):
        cli.main([])
