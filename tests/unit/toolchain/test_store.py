"""Folders of the shared cache: published whole, by one process at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ops.toolchain import store

HOLD = """
import sys, time
from pathlib import Path
from ops.toolchain import store
with store.exclusive(Path(sys.argv[1]), "thing", print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "cli"
    with store.publishing(target) as draft:
        (draft / "pulumi").write_text("whole")
        assert not target.exists()
    assert (target / "pulumi").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["cli"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.publishing(tmp_path / "cli") as draft:  # noqa: PT012
        (draft / "pulumi").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_swept_by_the_next(tmp_path: Path) -> None:
    stale = tmp_path / ".cli.4711.draft"
    stale.mkdir()
    other = tmp_path / ".provider.4711.draft"
    other.mkdir()
    with store.publishing(tmp_path / "cli"):
        assert not stale.exists()
    assert other.exists()


def test_a_folder_that_is_there_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "cli"
    target.mkdir()
    (target / "old").touch()
    with store.publishing(target) as draft:
        (draft / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]


def test_a_second_process_waits_and_says_for_whom(tmp_path: Path) -> None:
    holder = _hold(tmp_path)
    waits: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with store.exclusive(tmp_path, "thing", waits.append):
            entered.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    try:
        assert not entered.wait(0.5)
        assert waits == [f"process {holder.pid} in {Path.cwd()}"]
    finally:
        holder.terminate()
        holder.wait()
        waiting.join(5)
    assert entered.is_set()


def test_another_thing_is_not_waited_for(tmp_path: Path) -> None:
    holder = _hold(tmp_path)
    waits: list[str] = []
    with store.exclusive(tmp_path, "another", waits.append):
        holder.kill()
        holder.wait()
    assert waits == []


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    holder = _hold(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    started = time.monotonic()
    with store.exclusive(tmp_path, "thing", lambda who: pytest.fail(f"waited for {who}")):
        assert time.monotonic() - started < 1


def _hold(cache_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(cache_dir)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder
