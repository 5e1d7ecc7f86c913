"""The live display under a pseudo-terminal, with servers that do not answer."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops import cli
from tests.promises import promise
from tests.unit.documentation.pages import ROOT

# Long, because a busy machine starts Python slowly.
LIMIT_SECONDS = 120.0
PROGRAM = """
from pathlib import Path
from ops import cli
from ops.servers.monitored_stack import MonitoredStack

stack = MonitoredStack(
    "pty", ("localhost", 1), [("localhost", 1)], Path("/x"), {}, "postgresql://m:x@localhost:1/x",
    "redis://m:x@localhost:1/0", "redis://m:x@localhost:1/0",
)
MonitoredStack.of = lambda name: stack
cli.main(["top", "--interval", "0.5"])
"""
ALTERNATE, BACK, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class Terminal:
    """A program on a pseudo-terminal. `output` is everything it has written so far."""

    def __init__(self, width: int, height: int, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(width, height, None)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        variables = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=variables | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | environment,
            process_group=0,
        )
        self.output = b""

    def resize(self, width: int, height: int, number: int | None = signal.SIGWINCH) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        if number is not None:
            self.process.send_signal(number)

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def wait_for(self, found: Callable[[bytes], Any]) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not found(self.output):
            assert time.monotonic() < deadline, self.output[-3000:]
            if select.select([self._ours], [], [], 0.5)[0]:
                self.output += os.read(self._ours, 65536)
            else:
                assert self.process.poll() is None or found(self.output), self.output[-3000:]

    def frame(self) -> list[str]:
        """Return the lines of the last complete frame, without colours."""
        return lines_of(self.output.rsplit(b"\x1b[H", 2)[-2])

    def end(self) -> int:
        """Wait for the program's end, and return its exit code."""
        self.wait_for(lambda output: output.endswith(BACK + SHOW_CURSOR))
        return self.process.wait(LIMIT_SECONDS)

    def is_restored(self) -> bool:
        return termios.tcgetattr(self._theirs) == self.before and self.output.endswith(BACK + SHOW_CURSOR)

    def hang_up(self) -> None:
        """Close both ends that this process has."""
        for end in (self._ours, self._theirs):
            if end >= 0:
                os.close(end)
        self._ours = self._theirs = -1

    def close(self) -> None:
        with self.process:
            self.process.kill()
        self.hang_up()


def lines_of(frame: bytes) -> list[str]:
    return re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", frame).decode().replace("\r", "").split("\n")


def frames(count: int) -> Callable[[bytes], bool]:
    """Return whether so many frames are complete."""
    return lambda output: output.count(b"\x1b[H") > count + 1


@pytest.fixture
def start() -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def run(width: int = 80, height: int = 24, **environment: str) -> Terminal:
        started.append(Terminal(width, height, **environment))
        return started[-1]

    yield run
    for terminal in started:
        terminal.close()


@promise("top restores the terminal when it ends, by a key, by a signal, or when it is stopped")
def test_it_draws_until_q_and_restores_the_terminal(start: Callable[..., Terminal]) -> None:
    terminal = start()
    terminal.wait_for(frames(3))
    assert ALTERNATE in terminal.output
    shown = terminal.frame()
    assert len(shown) == 24
    assert max(map(len, shown)) <= 80
    assert shown[0].startswith("groundwork top - stack pty")
    assert shown[1].startswith("Postgres  DOWN  cannot reach")
    terminal.press(b"4")
    terminal.wait_for(lambda output: b"ROLE" in output)
    terminal.press(b"\x1b[B?")
    terminal.wait_for(lambda output: b"choose a view" in output)
    # The first key leaves the help.
    terminal.press(b" q")
    assert terminal.end() == 0
    assert terminal.is_restored()
    assert b"Traceback" not in terminal.output


@promise("top restores the terminal when it ends, by a key, by a signal, or when it is stopped")
def test_a_changed_size_changes_the_frame_and_ctrl_c_ends_it(start: Callable[..., Terminal]) -> None:
    terminal = start(NO_COLOR="1")
    terminal.wait_for(frames(1))
    assert "APPLICATION" not in "\n".join(terminal.frame())
    terminal.resize(132, 40)
    terminal.wait_for(lambda _: len(shown := terminal.frame()) == 40 and "APPLICATION" in "\n".join(shown))
    # Colours are 30 to 37, 90 to 97 and 38;5. Bold (1), dim (2) and reverse (7) remain.
    assert re.search(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])(?:;[0-9;]*)?m", terminal.output) is None
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert terminal.is_restored()
    assert b"Traceback" not in terminal.output


@promise("top restores the terminal when it ends, by a key, by a signal, or when it is stopped")
def test_a_stopped_program_restores_the_terminal_and_continues(start: Callable[..., Terminal]) -> None:
    terminal = start()
    terminal.wait_for(frames(1))
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.wait_for(lambda output: output.endswith(BACK + SHOW_CURSOR))
    _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert terminal.is_restored()
    terminal.process.send_signal(signal.SIGCONT)
    terminal.wait_for(lambda output: output.count(ALTERNATE) == 2)
    terminal.process.send_signal(signal.SIGTERM)
    terminal.wait_for(lambda output: output.count(BACK) == 2)
    assert terminal.end() == 143
    assert terminal.is_restored()


def test_it_ends_when_the_terminal_is_gone(start: Callable[..., Terminal]) -> None:
    terminal = start()
    terminal.wait_for(frames(1))
    terminal.hang_up()
    assert terminal.process.wait(LIMIT_SECONDS) == 129


@pytest.mark.parametrize(
    ("arguments", "named"),
    [([], "needs a terminal"), (["--json"], "--once"), (["--once", "--interval", "0"], "--interval")],
)
def test_it_refuses_what_it_cannot_show(
    arguments: list[str], named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["top", *arguments])
    assert exit_.value.code == 2
    assert named in capfd.readouterr().err
