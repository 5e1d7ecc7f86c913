"""Run functions in forked children of this process, and scripts in those of a new one."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

_LIMIT_SECONDS = 120.0
# Imports what the scripts need, which takes longer than a script, and forks for each.
_SCRIPTS = """
import asyncio, json, os, signal, sys
import db._async.access, db._sync.access, db.models, msgspec

for number, (code, environment) in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{sys.argv[1]}/{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        os.environ.clear()
        os.environ.update(environment)
        signal.alarm(120)
        exec(code, {"__name__": "__main__"})
        sys.exit()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def start(function: Callable[[], Any]) -> tuple[int, int]:
    """Start the function in a forked child. Return its process id and the pipe that its result comes from."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    try:
        result: tuple[bool, Any] = True, function()
    except BaseException:
        result = False, traceback.format_exc()
    with suppress(OSError):
        os.write(writer, pickle.dumps(result))
    # As multiprocessing ends its children: without the finalizers of this process.
    os._exit(0)


def result_of(started: tuple[int, int]) -> Any:
    """Return the result of a started function. A child that does not end is killed, and fails the test."""
    child, reader = started
    try:
        if not select([reader], [], [], _LIMIT_SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
            raise AssertionError("the forked child hangs")
        with os.fdopen(reader, "rb", closefd=False) as pipe:
            returned, result = pickle.loads(pipe.read())
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    assert returned, result
    return result


def in_child(function: Callable[[], Any]) -> Any:
    """Run the function in a forked child and return its result."""
    return result_of(start(function))


def run_scripts(
    scripts: Sequence[tuple[str, Mapping[str, str]]], folder: Path
) -> list[subprocess.CompletedProcess[str]]:
    """Run each script with its environment in a separate process, and wait for its end. Warnings are errors.

    The folder must be empty. It gets the output of the scripts.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SCRIPTS, str(folder)],
        input=json.dumps(scripts),
        capture_output=True,
        text=True,
        check=False,
    )
    codes = list(map(int, done.stdout.split()))
    assert len(codes) == len(scripts), done.stderr
    return [
        subprocess.CompletedProcess(
            code, returned, (folder / f"{n}.out").read_text(), (folder / f"{n}.err").read_text()
        )
        for n, ((code, _), returned) in enumerate(zip(scripts, codes, strict=True))
    ]
