"""SIGKILL a command and its child processes: groundwork, Pulumi's engine, its providers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.containers import wait_until

ROOT = Path(__file__).parents[2]


def kill_all(process: subprocess.Popen[str], environment: str) -> None:
    """Kill a process group, and every process with `NAME=value` in its environment.

    Pulumi starts its plugins in other process groups. The environment identifies them.
    """
    os.killpg(process.pid, signal.SIGKILL)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if environment.encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
    process.communicate()


def run_until_killed(command: Sequence[str], *, says: str, then: str) -> str:
    """Run a groundwork command, and kill it once stderr has a line that begins with `says`, and later contains `then`.

    Return its stderr.
    """
    mark = f"GROUNDWORK_TEST_MARK={uuid.uuid4().hex}"
    with tempfile.NamedTemporaryFile("w") as said:

        def text() -> str:
            return Path(said.name).read_text()

        def has_come() -> bool:
            assert process.poll() is None, f"the command ended before it could be killed:\n{text()}"
            _, said_it, rest = f"\n{text()}".partition(f"\n{says}")
            return bool(said_it) and then in rest

        process = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", *command],
            cwd=ROOT,
            env=os.environ | dict([mark.split("=")]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            text=True,
            start_new_session=True,
        )
        wait_until(has_come, timeout_seconds=500)
        kill_all(process, mark)
        return text()
