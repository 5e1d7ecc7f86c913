"""Runs the programs the toolchain is made with: output line by line, a deadline, nothing left running.

Their failure is `CommandFailed`, which carries the last lines; whoever started them says what it means.
"""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_TAIL_LINES = 15


class CommandFailed(Exception):
    """A program ended with an error, was not there, or ran out of time; `tail` holds its last lines."""

    def __init__(self, command: Sequence[str], reason: str, tail: Sequence[str] = ()) -> None:
        super().__init__(f"`{' '.join(command[:3])}` {reason}" + (f": {tail[-1]}" if tail else ""))
        self.tail = tuple(tail)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_seconds: float | None = None,
    first_line_seconds: float | None = None,
    stdin: int | None = None,
    on_line: Callable[[str], None] | None = None,
) -> list[str]:
    """Run a program to its end and return the lines of its standard output.

    `on_line` sees every line of both outputs as it comes. `first_line_seconds` bounds the silence before the
    first one: how a host that swallows packets shows. Raises CommandFailed.
    """
    try:
        process = subprocess.Popen(
            list(command),
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise CommandFailed(command, f"cannot be run ({error.strerror})") from error
    assert process.stdout is not None
    assert process.stderr is not None
    output: list[str] = []
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    spoke = threading.Event()

    def pump(stream: IO[str], keep: list[str] | None) -> None:
        with stream:
            for line in stream:
                spoke.set()
                line = line.rstrip("\n")
                if line:
                    tail.append(line)
                if keep is not None:
                    keep.append(line)
                if on_line is not None:
                    on_line(line)

    readers = [
        threading.Thread(target=pump, args=(process.stdout, output), daemon=True),
        threading.Thread(target=pump, args=(process.stderr, None), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        if first_line_seconds is not None:
            _await_first_line(process, spoke, first_line_seconds)
        code = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(command, f"did not end within {error.timeout:.0f} s", list(tail)) from error
    finally:
        # Also on Ctrl-C: nobody would be left to read what it writes.
        if process.poll() is None:
            _end(process)
        for reader in readers:
            reader.join(2)
    if code != 0:
        raise CommandFailed(command, f"failed with exit code {code}", list(tail))
    return output


def _await_first_line(process: subprocess.Popen[str], spoke: threading.Event, seconds: float) -> None:
    waited = 0.0
    while not spoke.wait(0.1) and process.poll() is None:
        waited += 0.1
        if waited >= seconds:
            raise subprocess.TimeoutExpired(process.args, seconds)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
