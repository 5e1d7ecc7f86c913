"""A full disk, or another error about a file, in a command: one line, exit code 1, and no traceback."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from infra.state_folder import make_private
from ops import cli
from ops.errors import Exit
from ops.toolchain import store
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


def main_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fails)
    cli.main([])


def test_a_file_that_cannot_be_accessed_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO),
    )
    for number in numbers:
        for name in ("/state/rotation.json", b"/state/rotation.json"):
            with pytest.raises(SystemExit) as over:
                main_raises(monkeypatch, OSError(number, "no", name))
            assert (over.value.code, capfd.readouterr().err) == (
                Exit.ERROR,
                "groundwork: cannot access /state/rotation.json: no; fix the cause and run the same command again\n",
            ), (errno.errorcode[number], name)


def test_a_home_that_may_not_be_written_is_answered_with_the_variables_that_replace_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    remedies = {
        "GROUNDWORK_STATE": ("/home/nobody", "/home/nobody/.local", "/home/nobody/.local/state/groundwork"),
        "GROUNDWORK_CACHE": ("/home/nobody/.cache", "/home/nobody/.cache/groundwork"),
        None: ("/home/nobody/.cache/groundwork/locks", "/home/nobody/.docker", "/home/another"),
    }
    for name in ("GROUNDWORK_STATE", "GROUNDWORK_CACHE", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/nobody")
    for variable, folders in remedies.items():
        for folder in folders:
            for number in (errno.EACCES, errno.EROFS):
                with pytest.raises(SystemExit):
                    main_raises(monkeypatch, OSError(number, "no", folder))
                said = (
                    f"set HOME or {variable} to a folder that you may write," if variable else "fix the cause"
                )
                assert f"{folder}: no; {said} and run the same command again\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "no"),
        ConnectionRefusedError(errno.ECONNREFUSED, "no"),
        OSError(errno.EBADF, "no", 7),
        FileNotFoundError(errno.ENOENT, "no", str(ROOT / "ops" / "missing.json")),
    ],
    ids=["no file", "a connection", "a descriptor", "a file of groundwork's own"],
)
def test_another_system_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    with pytest.raises(type(error)) as raised:
        main_raises(monkeypatch, error)
    assert raised.value is error


def make_cache() -> None:
    with store.exclusive(Checkout.here().cache_dir, "test", lambda _holder: None):
        pass


def make_state() -> None:
    checkout = Checkout.here()
    make_private(checkout, checkout.state_dir)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (".cache", make_cache),
        (".local", make_state),
        ("GROUNDWORK_CACHE", make_cache),
        ("GROUNDWORK_STATE", make_state),
    ],
    ids=[".cache", ".local", "GROUNDWORK_CACHE", "GROUNDWORK_STATE"],
)
@pytest.mark.parametrize("is_link", [True, False], ids=["dangling link", "file"])
def test_a_folder_that_cannot_be_created_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    make: Callable[[], None],
    is_link: bool,
) -> None:
    for variable in ("GROUNDWORK_CACHE", "GROUNDWORK_STATE", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / name
    if name.startswith("GROUNDWORK"):
        monkeypatch.setenv(name, str(place))
    if is_link:
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.touch()
    monkeypatch.setattr(cli.cli, "main", lambda *_, **__: make())
    with pytest.raises(SystemExit) as over:
        cli.main([])
    err = capfd.readouterr().err
    if is_link and name.startswith("GROUNDWORK"):
        # The variable is resolved, so that the folder behind the link is created.
        assert (over.value.code, err) == (Exit.FINE, "")
        return
    said = (
        f"symbolic link to {tmp_path}/nowhere, which does not exist"
        if is_link
        else f"{place} is not a directory"
    )
    assert over.value.code == Exit.ERROR
    assert err.startswith(f"groundwork: cannot access {place}")
    assert err.endswith(f"{said}; fix the cause and run the same command again\n")
    assert err.count("\n") == 1
