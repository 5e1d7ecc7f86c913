"""Ctrl-C during a run in two processes: slow fixtures are still torn down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.__main__ import IN_LANES

# Without the plugins of other packages, which take most of the time of a short run.
ONLY_PYTEST = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

# Longer than execnet waits before it interrupts a second time.
SLOW_TEST = """
import pathlib, time, pytest

HERE = pathlib.Path(__file__).parent

@pytest.fixture
def made():
    (HERE / "made").touch()
    yield
    time.sleep({teardown_seconds})
    (HERE / "taken down").touch()

def test_something(made):
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("options", "teardown_seconds", "taken_down"),
    # Negative control: xdist by default kills its workers after five seconds.
    [(IN_LANES, 6.5, True), ([], 60, False)],
    ids=["ours", "xdist's own"],
)
def test_an_interrupted_run_tears_down_its_fixtures(
    tmp_path: Path, options: list[str], teardown_seconds: float, taken_down: bool
) -> None:
    (tmp_path / "test_slow.py").write_text(SLOW_TEST.format(teardown_seconds=teardown_seconds))
    root = Path(__file__).parents[3]
    run = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "--rootdir",
            tmp_path,
            tmp_path,
            "--numprocesses=1",
            *options,
            "-p",
            "no:cacheprovider",
        ],
        env=os.environ | {"PYTHONPATH": str(root), "PYTEST_ADDOPTS": "-p xdist"} | ONLY_PYTEST,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Like a terminal, which sends the signal to the whole group.
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
