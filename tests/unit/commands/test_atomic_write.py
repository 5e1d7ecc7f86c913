"""Atomic file writes, also on a full disk and when the writer is killed."""

from __future__ import annotations

import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ops import atomic_write
from ops.errors import Exit, OpsError
from tests.promises import promise

OLD, NEW = "old\n", "new\n" * 100_000
Write = Callable[[Path], None]


def naive(path: Path) -> None:
    path.write_text(NEW)


def whole(path: Path) -> None:
    atomic_write.write(path, NEW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(OLD)
    return path


def in_child(action: Callable[[], None]) -> int:
    """Run a function in a separate process. Return its exit code, or minus the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except OpsError as error:
            os._exit(error.exit_code)
        except OSError:
            os._exit(99)
        except BaseException:
            os._exit(98)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def on_a_full_disk(write: Write, path: Path) -> int:
    def fill() -> None:
        # Behaves like a disk with this much space left: the rest of a write is refused.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        write(path)

    return in_child(fill)


def killed_at(step: int, write: Write, path: Path) -> int:
    def count() -> None:
        steps = 0

        def look(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal steps
            if event in ("open", "os.rename", "os.remove", "os.chmod") and path.name in str(arguments[0]):
                steps += 1
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        real = os.fsync

        def fsync(handle: int) -> None:
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            real(handle)

        os.fsync = fsync
        sys.addaudithook(look)
        write(path)

    return in_child(count)


def test_an_existing_file_is_replaced(path: Path) -> None:
    path.chmod(0o640)
    whole(path)
    assert path.read_text() == NEW
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [*path.parent.iterdir()] == [path]


def test_a_new_file_has_the_umasks_mode_and_a_private_one_is_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        whole(tmp_path / "shown")
        atomic_write.write(tmp_path / "private", NEW, is_private=True)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"shown": 0o644, "private": 0o600}


@promise("a full disk is reported in one line, and the existing file is kept")
def test_a_full_disk_keeps_the_old_file(path: Path) -> None:
    assert on_a_full_disk(whole, path) == Exit.ERROR
    assert path.read_text() == OLD
    assert [*path.parent.iterdir()] == [path]
    assert on_a_full_disk(naive, path) == 99
    assert path.read_text() != OLD, "the control: written in place it is lost"


@promise("a full disk is reported in one line, and the existing file is kept")
def test_after_a_kill_at_any_step_the_file_is_the_old_or_the_new_one(path: Path) -> None:
    step, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        step += 1
        path.write_text(OLD)
        code = killed_at(step, whole, path)
        assert path.read_text() == (NEW if code == 0 else OLD)
    assert (code, step) == (0, 4), "opened, on the disk, put in place"
    path.write_text(OLD)
    whole(path)
    assert path.read_text() == NEW


def test_a_symbolic_link_stays_a_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    whole(link)
    assert link.is_symlink()
    assert path.read_text() == NEW


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """Otherwise root would replace /dev/null itself by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        atomic_write.write(pipe, OLD)
        assert os.read(reader, 100) == OLD.encode()
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(("name", "said"), [("", "is a directory"), ("absent/x", "is not a directory")])
def test_where_nothing_can_be_written_is_said_beforehand(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(OpsError, match=said) as refused:
        atomic_write.check_target(tmp_path / name)
    assert refused.value.exit_code == Exit.USAGE


def test_a_folder_that_has_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"cannot write .*absent/x: No such file or directory$"):
        whole(tmp_path / "absent" / "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
def test_a_replaced_file_keeps_its_owner(path: Path) -> None:
    os.chown(path, 12345, 54321)
    atomic_write.write(path, NEW)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)
    assert path.read_text() == NEW
