"""Runs of `groundwork chaos` on a cluster, which the tests let finish or kill."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from pathlib import Path

from infra.docker.engine import DockerError, docker, inspect
from ops.chaos.network import helper_of
from ops.chaos.plan import KILL, PARTITION, PRIMARY, Topology, make_plan
from tests.containers import wait_until
from tests.infra.checkout import CheckoutCopy
from tests.infra.killing import kill_all

_TOTAL_SECONDS = 120
# Long enough that the fault does not end before a test has looked.
_LEAST_SECONDS = 40
_WAIT_SECONDS = 120.0
_TARGET = f"postgres {PRIMARY}"


def begin(checkout: CheckoutCopy, fault: str, primary: str) -> subprocess.Popen[str]:
    """Start a run without a load, and return once a long `fault` of the Postgres primary is in effect."""
    process = checkout.start(
        *("chaos", "--yes", "--load", "none", "--for", f"{_TOTAL_SECONDS}s", "--seed", str(_seed(fault))),
        *("--faults", fault, "--services", "postgres"),
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if f"{fault} postgres" in line:
            wait_until(lambda: _is_in_effect(fault, primary), _WAIT_SECONDS)
            return process
    raise AssertionError(f"the run ended before its fault:\n{''.join(said)}")


def kill_command(process: subprocess.Popen[str]) -> None:
    """Kill the command alone. Its watchdog remains."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def kill_everything(checkout: CheckoutCopy, process: subprocess.Popen[str]) -> None:
    """Kill the watchdog and the command, so that neither undoes anything."""
    mark = f"GROUNDWORK_STATE={checkout.state}"
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_watchdog = b"ops.chaos.watchdog" in (folder / "cmdline").read_bytes().split(b"\0")
            if is_watchdog and mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
    kill_all(process, mark)


def is_frozen(container: str) -> bool:
    """Return whether a container has stopped processes."""
    states = docker("top", container, "-eo", "pid,stat").splitlines()[1:]
    return any(line.split()[1].startswith("T") for line in states)


def _is_in_effect(fault: str, container: str) -> bool:
    if fault == PARTITION:
        with contextlib.suppress(DockerError):
            return "blackhole" in docker("exec", helper_of(container, {}).name, "ip", "route")
        return False
    if fault == KILL:
        return not inspect("container", container)[0]["State"]["Running"]
    return is_frozen(container)


def _seed(fault: str) -> int:
    """Return the first seed whose plan begins soon with a long fault of the primary."""
    for seed in itertools.count():
        first = make_plan(seed, _TOTAL_SECONDS, [fault], Topology(True, False), ["postgres"])[0]
        if first.target == _TARGET and first.seconds >= _LEAST_SECONDS and first.at <= 2:
            return seed
    raise AssertionError
