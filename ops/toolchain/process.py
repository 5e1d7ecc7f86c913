"""Run the toolchain's programs: output line by line, a time limit, and no process left running.

A failure raises `CommandFailed` with the last lines of output; callers explain it. The `STOP` event stops one of
several parallel parts: its program is terminated, and `Stopped` is raised.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import IO

_TAIL_LINES = 40
_POLL_SECONDS = 0.1

# Set by ops.toolchain.parts for each part of the work that can be stopped.
STOP: ContextVar[threading.Event | None] = ContextVar("STOP", default=None)


class Stopped(Exception):
    """This part of the work was stopped, because another one failed or the user interrupted it."""


def pause(seconds: float) -> None:
    """Sleep. Raise Stopped as soon as this part of the work has to stop."""
    stop = STOP.get()
    if stop is None:
        time.sleep(seconds)
    elif stop.wait(seconds):
        raise Stopped


class CommandFailed(Exception):
    """A program failed, was not found, or timed out.

    - `tail`: the last lines of both outputs. The order of a line of stdout and a line of stderr is random, because two
      threads read them.
    - `errors`: the last lines of stderr.
    - `last_line`: the last line of stderr; without one, the last line of stdout; without both, or if the program was
      stopped, the message.
    """

    def __init__(
        self,
        command: Sequence[str],
        reason: str,
        tail: Sequence[str] = (),
        errors: Sequence[str] = (),
        *,
        was_stopped: bool = False,
    ) -> None:
        what = f"`{' '.join(command[:3])}` {reason}"
        lines = errors or tail
        super().__init__(f"{what}: {lines[-1]}" if lines else what)
        self.tail = tuple(tail)
        self.errors = tuple(errors)
        # The last line of a stopped program is not the reason.
        self.last_line = lines[-1] if lines and not was_stopped else str(self)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_seconds: float | None = None,
    first_line_seconds: float | None = None,
    stdin: int | None = None,
    on_line: Callable[[str], None] | None = None,
    can_stop: bool = True,
) -> list[str]:
    """Run a program, and return the lines of its standard output.

    `on_line` gets every line of both outputs as it arrives. `first_line_seconds` limits the time before the first
    line, which detects a host that drops packets. With `can_stop=False`, the failure of another part does not
    interrupt the program. Raises CommandFailed, Stopped.
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
            # In its own process group, so that its children end with it: a killed `go build` leaves compilers running.
            process_group=0,
        )
    except OSError as error:
        raise CommandFailed(command, f"cannot be run ({error.strerror})") from error
    assert process.stdout is not None
    assert process.stderr is not None
    output: list[str] = []
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    errors: deque[str] = deque(maxlen=_TAIL_LINES)
    spoke = threading.Event()

    def pump(stream: IO[str], keep: list[str] | None) -> None:
        with stream:
            for line in stream:
                spoke.set()
                line = line.rstrip("\n")
                if line:
                    tail.append(line)
                    if keep is None:
                        errors.append(line)
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
        code = _await_end(process, timeout_seconds) if can_stop else process.wait(timeout_seconds)
    except subprocess.TimeoutExpired as error:
        reason = f"timed out after {error.timeout:.0f} s"
        raise CommandFailed(command, reason, tail, errors, was_stopped=True) from error
    finally:
        # After Ctrl-C too, because nothing reads the output any more.
        if process.poll() is None:
            _end(process)
        for reader in readers:
            reader.join(2)
    if code != 0:
        raise CommandFailed(command, f"failed with exit code {code}", tail, errors)
    return output


def _await_first_line(process: subprocess.Popen[str], spoke: threading.Event, seconds: float) -> None:
    waited = 0.0
    while not spoke.wait(0.1) and process.poll() is None:
        waited += 0.1
        if waited >= seconds:
            raise subprocess.TimeoutExpired(process.args, seconds)


def _await_end(process: subprocess.Popen[str], seconds: float | None) -> int:
    stop = STOP.get()
    if stop is None:
        return process.wait(seconds)
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            return process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if stop.is_set():
                raise Stopped from None
            if seconds is not None and deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, seconds) from None


def _end(process: subprocess.Popen[str]) -> None:
    """Terminate a program and all processes of its group."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    # The process may have exited in the meantime.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def is_running(pid: int, name: str) -> bool:
    """Return whether a process with this id runs a program whose name contains `name`.

    A zombie does not count. A process whose name cannot be read (another user's, or no /proc) counts as running.
    """
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    try:
        # "PID (name) STATE ...": the name may contain anything and ends at the last parenthesis.
        found, _, rest = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
        )
    except OSError:
        return True
    return name in found and rest.split()[0] != "Z"
