"""Parallel parts of the work: a failed one stops the others, and Ctrl-C stops all."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.toolchain import process, store
from ops.toolchain.parts import Parts

INTERRUPTED = """
import sys
from pathlib import Path
from ops.toolchain import process
from ops.toolchain.parts import Parts

def part() -> None:
    # The program's own child, as a compiler is of `go build`.
    body = "sleep 600 >/dev/null 2>&1 & echo $!; wait"
    # One write for the whole line, because the other part writes at the same time.
    process.run(["sh", "-c", body], on_line=lambda line: print(f"{line}\\n", end="", flush=True))

with Parts() as parts:
    parts.start(part)
    parts.start(part)
"""


def together(*functions: Callable[[], None]) -> None:
    with Parts() as parts:
        for function in functions:
            parts.start(function)


def test_the_first_failure_is_raised_and_stops_the_others() -> None:
    is_running = threading.Event()

    def long() -> None:
        process.run(["sh", "-c", "echo on; exec sleep 600"], on_line=lambda _line: is_running.set())

    def failing() -> None:
        assert is_running.wait(60)
        raise ValueError("first")

    started = time.monotonic()
    with pytest.raises(ValueError, match="first"):
        together(long, failing)
    assert time.monotonic() - started < 300


def test_a_part_that_waits_for_another_process_is_stopped(tmp_path: Path) -> None:
    def waiting() -> None:
        with store.exclusive(tmp_path, "thing", lambda _who: None):
            raise AssertionError

    def failing() -> None:
        raise ValueError("first")

    holder = f"""
import fcntl, sys
lock = open({str(tmp_path / "locks" / "thing.lock")!r}, "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""
    (tmp_path / "locks").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ValueError, match="first"):
            together(waiting, failing)
        other.kill()


def test_a_command_that_must_not_be_interrupted_finishes(tmp_path: Path) -> None:
    """An interrupted package manager leaves a half-installed package."""
    is_running = threading.Event()

    def installing() -> None:
        body = f"echo on; sleep 0.5; touch {tmp_path}/whole"
        process.run(["sh", "-c", body], on_line=lambda _line: is_running.set(), can_stop=False)

    def failing() -> None:
        assert is_running.wait(60)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        together(installing, failing)
    assert (tmp_path / "whole").exists()


def test_ctrl_c_stops_everything() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        try:
            children = [int(run.stdout.readline()) for _ in range(2)]
            # Only to this process, like `kill -INT`. A terminal would signal its children as well.
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=120)
        finally:
            run.kill()
    assert "KeyboardInterrupt" in said
    for child in children:
        assert is_gone(child)


def is_gone(child: int) -> bool:
    """Wait until a signalled process is gone or a zombie, because its new parent may reap it later."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False
