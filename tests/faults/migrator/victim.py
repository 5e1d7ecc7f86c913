"""Run `groundwork migrate` in processes that are killed or run concurrently, without importing it each time.

    python -m tests.faults.migrator.victim   (one JSON request a line, one JSON answer a line)

A request: {"arguments": [...], "kill_at": 3 or null, "delay": 0.0, "count": 1, "naive": false}. A process is killed
`delay` seconds after it starts its step number `kill_at` (from 1). A step is a statement, the begin or end of a
transaction, or the writing, linking or removal of a file. The answer has for each process the exit code (-9 if it was
killed), stdout, the error, and the number of steps.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg

from ops.commands.migrate import migrate
from ops.errors import OpsError
from tests.faults.migrator import naive

# Modules that the commands import when they are called.
_WARM = ("db.migrator.baseline", "db.migrator.repair", "db.migrator.scaffold", "ops.commands.migrate_ledger")
_FILE_STEPS = {"os.link", "os.chmod", "os.remove", "tempfile.mkstemp"}


class Executioner:
    """Counts the steps of this process, and kills it at one of them."""

    def __init__(self, kill_at: int | None, delay: float) -> None:
        self._kill_at, self._delay = kill_at, delay
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps != self._kill_at:
            return
        victim = os.getpid()
        if not self._delay:
            os.kill(victim, signal.SIGKILL)
        elif os.fork() == 0:
            time.sleep(self._delay)
            if os.getppid() == victim:
                os.kill(victim, signal.SIGKILL)
            os._exit(0)

    def watch(self) -> None:
        for owner, name in (
            (psycopg.Cursor, "execute"),
            (psycopg.Transaction, "__enter__"),
            (psycopg.Transaction, "__exit__"),
        ):
            setattr(owner, name, self._stepping(getattr(owner, name)))
        sys.addaudithook(lambda event, _: self.step() if event in _FILE_STEPS else None)

    def _stepping(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            return call(*arguments, **options)

        return stepping


def run(arguments: list[str]) -> tuple[int, str, str]:
    """Run a command and return exit code, stdout and error, as ops.cli would produce them."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            migrate.main(arguments, standalone_mode=False)
        except OpsError as error:
            return error.exit_code, out.getvalue(), str(error)
        except SystemExit as stopped:
            return int(str(stopped.code or 0)), out.getvalue(), ""
    return 0, out.getvalue(), ""


def child(request: dict[str, Any], answer: int) -> None:
    if request["naive"]:
        naive.lock_blocking()
    executioner = Executioner(request["kill_at"], request["delay"])
    executioner.watch()
    try:
        said: tuple[int, str, str] = run(request["arguments"])
    except BaseException as error:
        said = 255, "", repr(error)
    os.write(answer, json.dumps([*said, executioner.steps]).encode())


def serve(request: dict[str, Any]) -> list[Any]:
    children = []
    for _ in range(request["count"]):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(request, writing)
            os._exit(0)
        os.close(writing)
        children.append((pid, reading))
    answers = []
    for pid, reading in children:
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        answers.append(json.loads(said) if said else [-signal.SIGKILL, "", "", request["kill_at"]])
    return answers


if __name__ == "__main__":
    for module in _WARM:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
