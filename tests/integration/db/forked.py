"""Run a function in a forked child, and return what it returned or raised."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from select import select
from typing import Any

_LIMIT_SECONDS = 120.0


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
