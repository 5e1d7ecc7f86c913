"""Folders of the shared cache: published atomically, by one process at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ops.toolchain import store
from tests.containers import wait_until
from tests.promises import promise

HOLD = """
import sys, time
from pathlib import Path
from ops.toolchain import store
with store.exclusive(Path(sys.argv[1]), "thing", print):
    print("held", flush=True)
    time.sleep(60)
"""


@promise("a folder of the cache appears whole or not at all")
def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "cli"
    with store.publishing(target) as draft:
        (draft / "pulumi").write_text("whole")
        assert not target.exists()
    assert (target / "pulumi").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["cli"]


@promise("a folder of the cache appears whole or not at all")
def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.publishing(tmp_path / "cli") as draft:  # noqa: PT012
        (draft / "pulumi").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_remains_of_a_killed_build_are_deleted_by_the_next(tmp_path: Path) -> None:
    stale = tmp_path / ".cli.4711.draft"
    stale.mkdir()
    other = tmp_path / ".provider.4711.draft"
    other.mkdir()
    with store.publishing(tmp_path / "cli"):
        assert not stale.exists()
    assert other.exists()


def test_an_existing_folder_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "cli"
    target.mkdir()
    (target / "old").touch()
    with store.publishing(target) as draft:
        (draft / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]


@promise("two checkouts never build the same thing at once")
def test_a_second_process_waits_and_reports_the_holder(tmp_path: Path) -> None:
    holder = _hold(tmp_path)
    waits: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with store.exclusive(tmp_path, "thing", waits.append):
            entered.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    try:
        wait_until(lambda: bool(waits))
        assert not entered.wait(0.5)
        assert waits == [f"process {holder.pid} in {Path.cwd()}"]
    finally:
        with holder:
            holder.terminate()
        waiting.join(60)
    assert entered.is_set()


def test_another_item_is_not_waited_for(tmp_path: Path) -> None:
    holder = _hold(tmp_path)
    waits: list[str] = []
    with store.exclusive(tmp_path, "another", waits.append):
        with holder:
            holder.kill()
    assert waits == []


def test_a_killed_lock_holder_blocks_nothing(tmp_path: Path) -> None:
    holder = _hold(tmp_path)
    with holder:
        holder.send_signal(signal.SIGKILL)
    started = time.monotonic()
    with store.exclusive(tmp_path, "thing", lambda who: pytest.fail(f"waited for {who}")):
        assert time.monotonic() - started < 1


def _hold(cache_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(cache_dir)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder
