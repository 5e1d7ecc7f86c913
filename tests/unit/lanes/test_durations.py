"""The summary of the slowest tests and the time by kind, over several runs of pytest and their processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import durations

ROOT = Path(__file__).parents[3]


def test_the_summary_covers_every_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for kind, seconds in (("unit", 0.0), ("faults", 0.3)):
        folder = tmp_path / "tests" / kind
        folder.mkdir(parents=True)
        (folder / f"test_{kind}.py").write_text(
            f"import time\n\n\ndef test_one():\n    time.sleep({seconds})\n\n\ndef test_two():\n    assert False\n"
        )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    with durations.collected() as collecting:
        for kind, options in (("unit", []), ("faults", ["-p", "xdist", "--numprocesses=1"])):
            command = [sys.executable, "-m", "pytest", "-p", "tests.durations", f"tests/{kind}", *options]
            # The plugins of other packages would take most of the time.
            only_pytest = {
                "PYTHONPATH": str(ROOT),
                "PYTEST_ADDOPTS": "",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            }
            environment = os.environ | collecting | only_pytest
            subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    printed = capfd.readouterr().out
    assert printed.count("1 failed, 1 passed") == 2
    slowest, _, by_kind = printed.partition("slowest tests")[2].partition("time by kind")
    assert [line.split()[-1] for line in slowest.splitlines()[1:2]] == [
        "tests/faults/test_faults.py::test_one"
    ]
    assert slowest.count("::test_") == 4
    assert [line.split(" s  ")[1] for line in by_kind.splitlines()[1:]] == [
        "faults (2 tests)",
        "unit (2 tests)",
    ]
