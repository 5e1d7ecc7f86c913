"""A fork while other threads of the data access connect, or count in metrics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.promises import promise

ROOT = Path(__file__).parents[3]
# The module's import takes longer than the fork, as the first import of encodings.idna can on a busy machine.
SLOW = """\
import pathlib, time
pathlib.Path("begun").touch()
time.sleep(1)
"""
MAIN = """\
import os, pathlib, signal, sys, threading, time, warnings
from contextlib import nullcontext
from cache.forking import connecting

# Newer Pythons warn of threads at a fork.
warnings.simplefilter("ignore")
guarded = {"guarded": connecting, "unguarded": nullcontext}[sys.argv[1]]

def connect():
    with guarded():
        import slow_to_import

sys.path.insert(0, os.getcwd())
thread = threading.Thread(target=connect)
thread.start()
while not pathlib.Path("begun").exists():
    time.sleep(0.001)
child = os.fork()
if child == 0:
    signal.alarm(int(sys.argv[2]))
    import slow_to_import
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""


@promise("a forked child uses connections of its own", control=True)
@pytest.mark.parametrize(("guard", "seconds", "status"), [("guarded", 60, "0"), ("unguarded", 3, "-14")])
def test_a_child_can_import_what_a_connecting_thread_was_importing(
    tmp_path: Path, guard: str, seconds: int, status: str
) -> None:
    """Without the guard, the parent's import is locked for ever in the child, which an alarm ends."""
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, guard, str(seconds)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (done.stdout.strip(), done.stderr) == (status, "")


COUNTING = """\
import os, signal, sys
from inspect import getclosurevars
from prometheus_client import Counter, values

if sys.argv[1] == "guarded":
    import cache.forking

counter = Counter("calls", "Calls.")
# As a thread that counts at the time of the fork.
lock = getclosurevars(values.ValueClass.inc).nonlocals.get("lock") or counter._value._lock
lock.acquire()
child = os.fork()
if child == 0:
    signal.alarm(int(sys.argv[2]))
    counter.inc()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@promise("a forked child uses connections of its own", control=True)
@pytest.mark.parametrize(("guard", "seconds", "status"), [("guarded", 60, "0"), ("unguarded", 1, "-14")])
@pytest.mark.parametrize("mode", ["one process", "PROMETHEUS_MULTIPROC_DIR"])
def test_a_child_can_count_what_a_thread_of_the_parent_was_counting(
    tmp_path: Path, guard: str, seconds: int, status: str, mode: str
) -> None:
    """With several processes as under gunicorn, all metrics share one lock."""
    environment = {"PYTHONPATH": str(ROOT)}
    if mode != "one process":
        environment[mode] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, guard, str(seconds)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (done.stdout.strip(), done.stderr) == (status, "")
