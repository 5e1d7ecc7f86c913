"""Show frames on a terminal, and read its keys. The terminal is restored at the end, however the program ends."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.control import Control
from rich.screen import Screen

from ops.errors import Exit, OpsError
from ops.output import unescaped
from ops.top.collector import Collector
from ops.top.frame import Painter, rows_that_fit
from ops.top.views import STATEMENTS, Display, press, rows_of

# The servers answer at nearly the same time, and one frame shows all answers.
_GATHER_SECONDS = 0.05
# A frame a second without any answer, so that the display shows how long there has been none.
_LONGEST_SECONDS = 1.0
# Over a slow connection, an escape sequence may arrive in two parts.
_ESCAPE_SECONDS = 0.05
_PATIENCE_SECONDS = 0.2
_READ = 0
_ENDINGS = {signal.SIGINT: 0, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGHUP: 128 + signal.SIGHUP}
_TERMINAL_GONE = _ENDINGS[signal.SIGHUP]
_SIGNALS = (*_ENDINGS, signal.SIGWINCH, signal.SIGTSTP)
_SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down",
    b"\x1b[H": "home", b"\x1bOH": "home", b"\x1b[1~": "home",
    b"\x1b[F": "end", b"\x1bOF": "end", b"\x1b[4~": "end",
    b"\x1b": "escape", b"\n": "enter", b"\r": "enter", b"\t": "tab",
}  # fmt: skip


def require_terminal() -> Console:
    """Return a console for the terminal. Raise OpsError (2) if there is none that can show frames."""
    # Frames contain escape sequences, so the stream must not escape them. The painter escapes foreign text.
    console = Console(file=unescaped(sys.stdout), highlight=False, markup=False, emoji=False)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise OpsError("top needs a terminal for input and output; use --once, or --once --json", Exit.USAGE)
    if console.is_dumb_terminal:
        raise OpsError(
            f"top cannot draw on a terminal of type {os.environ.get('TERM', '')!r}; set TERM, or use --once",
            Exit.USAGE,
        )
    return console


def keys(data: bytes) -> list[str]:
    """Return the names of the pressed keys. An unknown escape sequence is one key, which does nothing."""
    found = (match.group() for match in _SEQUENCE.finditer(data))
    return [_KEYS.get(each) or each.decode("latin-1") for each in found]


class LiveView:
    """The live display. `collect` makes the collector, given what to call after each reading."""

    def __init__(
        self, console: Console, interval: float, collect: Callable[[Callable[[], None]], Collector]
    ) -> None:
        self._console = console
        self._painter = Painter(console)
        self._display = Display(interval)
        self._input = sys.stdin.fileno()
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._collector = collect(self._note_read)
        self._snapshot = self._collector.snapshot()

    def run(self) -> int:
        """Show frames until a key or a signal ends the display. Return the exit code."""
        try:
            with self._signals():
                self._collector.start()
                code = None
                while code is None:
                    with self._screen():
                        code = self._show()
                    if code is None:
                        self._suspend()
                return code
        except OSError as error:
            # The terminal is gone, for example because the ssh connection broke.
            if error.errno != errno.EIO:
                raise
            return _TERMINAL_GONE
        finally:
            self._collector.stop(_PATIENCE_SECONDS)

    def _show(self) -> int | None:
        """Draw frames until the end. Return the exit code, or None if the program is to be suspended."""
        next_frame = time.monotonic()
        while True:
            timeout = max(next_frame - time.monotonic(), 0)
            ready, _, _ = select.select([self._input, self._woken], [], [], timeout)
            now = time.monotonic()
            if self._woken in ready:
                for number in os.read(self._woken, 4096):
                    if number == _READ:
                        next_frame = min(next_frame, now + _GATHER_SECONDS)
                    elif number in _ENDINGS:
                        return _ENDINGS[signal.Signals(number)]
                    elif number == signal.SIGTSTP:
                        return None
                    else:
                        next_frame = now
            if self._input in ready:
                if (code := self._take_keys()) is not None:
                    return code
                next_frame = now
            if now >= next_frame:
                self._draw()
                next_frame = now + _LONGEST_SECONDS

    def _take_keys(self) -> int | None:
        """Change the display by the pressed keys. Return the exit code, or None to continue."""
        data = os.read(self._input, 4096)
        if not data:
            return _TERMINAL_GONE
        if data.endswith(b"\x1b") and select.select([self._input], [], [], _ESCAPE_SECONDS)[0]:
            data += os.read(self._input, 4096)
        page = rows_that_fit(self._console.height)
        for key in keys(data):
            rows = rows_of(self._display, self._snapshot)
            hidden = self._painter.hidden_lines(self._snapshot, self._display)
            self._display = press(self._display, key, rows, page, hidden)
        self._collector.change(self._display.interval, self._display.view is STATEMENTS)
        return 0 if self._display.has_quit else None

    def _draw(self) -> None:
        if not self._display.is_paused:
            self._snapshot = self._collector.snapshot()
        self._console.control(Control.home())
        self._console.print(Screen(self._painter.frame(self._snapshot, self._display)), end="")

    def _note_read(self) -> None:
        try:
            os.write(self._wake, bytes([_READ]))
        except BlockingIOError:
            # The pipe is full of notifications that the display has not read yet.
            pass

    @contextmanager
    def _screen(self) -> Iterator[None]:
        """Switch to the alternate screen, and read keys without echo. Restore both."""
        before = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)
        try:
            with self._console.screen(hide_cursor=True):
                yield
        finally:
            # Fails if the terminal is gone.
            with suppress(termios.error):
                termios.tcsetattr(self._input, termios.TCSAFLUSH, before)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into bytes of the pipe, so that none interrupts a frame."""
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        descriptor = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _suspend(self) -> None:
        """Stop the program, as Ctrl-Z does, until the shell continues it."""
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
