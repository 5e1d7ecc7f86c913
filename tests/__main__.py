"""Run every test: first those that do not depend on speed, in several workers, then those that measure, in two.

`python -m tests` accepts pytest's options. The second run also starts if the first one
failed, but not if it was interrupted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import durations
from tests.scale import IS_FULL

# These tests measure a duration, the longest first. A file, a folder or a single test.
MEASURING = [
    "tests/faults/test_ill_redis.py",
    "tests/faults/test_racing.py",
    "tests/faults/test_pool.py",
    "tests/faults/migrator/test_traffic.py",
    "tests/faults/test_stampede.py",
]
if IS_FULL:
    # Otherwise their limits are generous (tests/scale.py), and they run together with the others.
    MEASURING += [
        "tests/faults/test_ill_postgres.py",
        "tests/faults/test_dying_writer.py",
        "tests/faults/test_slow_redis.py",
        "tests/faults/test_racing_feeds.py",
        "tests/integration/cache/test_valkey.py::test_the_tests_of_the_cache_pass_with_valkey[measuring]",
    ]
# Workers wait for containers and Pulumi much of the time. On a machine with two cores, two more workers than cores keep
# both busy; with three more, durations that tests wait for only become longer.
WORKERS = min((os.cpu_count() or 1) + 2, 8)
IN_LANES = ["-p", "tests.lanes", "-p", "tests.interruption", "--no-loadscope-reorder"]
RUNS = [
    ["tests", *(f"--deselect={each}" for each in MEASURING), f"--numprocesses={WORKERS}", *IN_LANES],
    [*MEASURING, "--numprocesses=2", *IN_LANES],
]


def main() -> int:
    # Ctrl-C reaches pytest too; this process waits until pytest has removed what it made.
    # Not SIG_IGN: children would inherit it.
    signal.signal(signal.SIGINT, lambda *_: None)
    codes = []
    with building_sqlx(), durations.collected() as collecting:
        for arguments in RUNS:
            command = [sys.executable, "-m", "pytest", "-p", "tests.durations", *arguments, *sys.argv[1:]]
            codes.append(subprocess.run(command, check=False, env=environment() | collecting).returncode)
            if codes[-1] in (pytest.ExitCode.INTERRUPTED, -signal.SIGINT):
                break
    return verdict(codes)


@contextmanager
def building_sqlx() -> Iterator[None]:
    """Build sqlx-cli while the first tests run, if the cache lacks it. The tests that need it wait for the build."""
    command = [sys.executable, "-m", "tests.integration.migrator.sqlx_cli"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            # It is still at work only if the tests that need it did not run.
            process.terminate()


def environment() -> dict[str, str]:
    """Return this process's environment, changed so that workers agree and bytecode is kept."""
    # All workers must collect the same tests in the same order, even if a set decides it.
    changed = {"PYTHONHASHSEED": str(random.randrange(2**32))} | os.environ
    # The tests start a thousand Python processes: without bytecode each compiles all that it imports.
    changed.pop("PYTHONDONTWRITEBYTECODE", None)
    return changed


def verdict(codes: list[int]) -> int:
    """Return the first failure's code. Selecting no test is a failure only if no run selected one."""
    failures = [
        code for code in codes if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    ]
    return abs(failures[0]) if failures else min(codes)


if __name__ == "__main__":
    sys.exit(main())
