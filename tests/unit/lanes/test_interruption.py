"""Ctrl-C in the middle of a run in two processes: what takes a while to take down is taken down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.__main__ import SHARED_OUT

# Longer than execnet waits before it interrupts a second time.
SLOW_TEST = """
import pathlib, time, pytest

HERE = pathlib.Path(__file__).parent

@pytest.fixture
def made():
    (HERE / "made").touch()
    yield
    time.sleep(6.5)
    (HERE / "taken down").touch()

def test_something(made):
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("options", "taken_down"),
    # The negative control: what xdist does by itself.
    [(SHARED_OUT, True), (["--numprocesses=2"], False)],
    ids=["ours", "xdist's own"],
)
def test_an_interrupted_run_takes_down_what_it_made(
    tmp_path: Path, options: list[str], taken_down: bool
) -> None:
    (tmp_path / "test_slow.py").write_text(SLOW_TEST)
    root = Path(__file__).parents[3]
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--rootdir", tmp_path, tmp_path, *options, "-p", "no:cacheprovider"],
        env={**os.environ, "PYTHONPATH": str(root), "PYTEST_ADDOPTS": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # As a terminal does: the signal is for all of the group.
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "made").exists() and time.monotonic() < until:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)
        run.wait(60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    assert (tmp_path / "made").exists()
    assert (tmp_path / "taken down").exists() is taken_down
