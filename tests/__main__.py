"""Runs every test, in two goes: two at a time what mostly waits, then by itself what is broken on purpose.

`python -m tests`, with pytest's options. The second go follows a first that failed, and not one that was interrupted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

# What is broken in these is right or wrong at any pace; the others measure, or bound what a fault may take.
FAULTS_AT_ANY_PACE = [
    "tests/faults/test_backups.py",
    "tests/faults/test_dying_loader.py",
    "tests/faults/test_dying_operator.py",
    "tests/faults/test_bad_values.py",
    "tests/faults/test_token_canary.py",
    "tests/faults/migrator/test_kill.py",
    "tests/faults/migrator/test_killed_commands.py",
]
# The long ones first, so that no process is left alone with one at the end.
TWO_AT_A_TIME = ["tests/infra", *FAULTS_AT_ANY_PACE, "tests/integration", "tests/unit"]
BESIDE_NOTHING = ["tests/faults", *(f"--ignore={path}" for path in FAULTS_AT_ANY_PACE)]
SHARED_OUT = ["--numprocesses=2", "-p", "tests.lanes", "-p", "tests.interruption", "--no-loadscope-reorder"]


def main() -> int:
    # Ctrl-C reaches pytest too, which takes down what it has made: that is waited for. Children would inherit SIG_IGN.
    signal.signal(signal.SIGINT, lambda *_: None)
    # Both processes collect the same tests in the same order, also where a set has a say in it.
    environment = {"PYTHONHASHSEED": str(random.randrange(2**32))} | os.environ
    codes = []
    for arguments in ([*TWO_AT_A_TIME, *SHARED_OUT], BESIDE_NOTHING):
        command = [sys.executable, "-m", "pytest", *arguments, *sys.argv[1:]]
        codes.append(subprocess.run(command, check=False, env=environment).returncode)
        if codes[-1] in (pytest.ExitCode.INTERRUPTED, -signal.SIGINT):
            break
    return verdict(codes)


def verdict(codes: list[int]) -> int:
    """The first failure's code; that no test was selected is one only where it holds of every go."""
    failures = [
        code for code in codes if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    ]
    return abs(failures[0]) if failures else min(codes)


if __name__ == "__main__":
    sys.exit(main())
