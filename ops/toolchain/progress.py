"""Show what is being installed and for how long: live lines on a terminal, otherwise plain lines.

Prints nothing for parts that are installed already.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ops.output import unescaped
from ops.printable import escaped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Long, so that these lines do not dominate a saved build log.
PLAIN_INTERVAL_SECONDS = 15.0


class ProgressStep:
    """A part being installed. Its line may be changed from any thread."""

    def __init__(self, title: str, doing: str, expected_seconds: float | None = None) -> None:
        self.title = title
        self.doing = doing
        self.expected_seconds = expected_seconds
        self.started = self._phase_started = time.monotonic()
        self._done = 0
        self._total: int | None = None
        self._unit = ""

    def now(self, doing: str, expected_seconds: float | None = None) -> None:
        """Switch to another kind of work on the same part."""
        self.doing, self.expected_seconds = doing, expected_seconds
        self._done, self._total, self._unit = 0, None, ""
        self._phase_started = time.monotonic()

    def count(self, done: int, total: int | None, unit: str) -> None:
        """Set the measured progress."""
        self._done, self._total, self._unit = done, total, unit

    @property
    def seconds(self) -> float:
        """The total time so far."""
        return time.monotonic() - self.started

    def __str__(self) -> str:
        elapsed = time.monotonic() - self._phase_started
        line = f"{self.title}: {self.doing}, {clock(elapsed)}"
        if self.expected_seconds:
            line += f" of about {clock(self._projected(elapsed, self.expected_seconds))}"
        if self._unit:
            total = "" if self._total is None else f" of {self._total}"
            line += f", {self._done}{total} {self._unit}"
        return line

    def _projected(self, elapsed: float, expected: float) -> float:
        """Return the expected time, or the one projected from the pace so far if that is longer (a busy machine)."""
        if self._total and self._done > self._total / 10:
            return max(expected, elapsed * self._total / self._done)
        return max(expected, elapsed)


class Progress:
    """The progress lines of one run, whose steps may run in parallel. The console is created at the first line."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._steps: list[ProgressStep] = []
        self._display: AbstractContextManager[object] | None = None

    @property
    def console(self) -> Console:
        if self._console is None:
            # rich costs an import.
            from rich.console import Console

            # rich moves the cursor, so that its stream does not escape. Foreign text is escaped below.
            self._console = Console(file=unescaped(sys.stderr))
        return self._console

    def say(self, line: str) -> None:
        self.console.print(escaped(line), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str, doing: str, expected_seconds: float | None = None) -> Iterator[ProgressStep]:
        """Show a step until the block ends, and then a line with its duration. A failed step prints no such line."""
        step = ProgressStep(title, doing, expected_seconds)
        if not self.console.is_terminal:
            self.say(str(step) if step.expected_seconds else f"{step.title}: {step.doing}")
        self._show(step)
        try:
            yield step
        finally:
            self._hide(step)
        self.say(f"{step.title}: {step.doing}, done in {clock(step.seconds)}")

    def _show(self, step: ProgressStep) -> None:
        with self._lock:
            self._steps.append(step)
            if self._display is None:
                self._display = self._live() if self.console.is_terminal else self._plain()
                self._display.__enter__()

    def _hide(self, step: ProgressStep) -> None:
        with self._lock:
            self._steps.remove(step)
            if not self._steps and self._display is not None:
                display, self._display = self._display, None
                display.__exit__(None, None, None)

    def _live(self) -> AbstractContextManager[object]:
        """Return a live display with one line for each running step, below the printed lines."""
        from rich.console import Group
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner = Spinner("dots")

        def lines() -> RenderableType:
            frame = spinner.render(self.console.get_time())
            return Group(
                *(
                    Text(f"{frame} {escaped(str(step))}", no_wrap=True, overflow="ellipsis")
                    for step in tuple(self._steps)
                )
            )

        return Live(get_renderable=lines, console=self.console, refresh_per_second=8, transient=True)

    @contextmanager
    def _plain(self) -> Iterator[None]:
        """Print a line for each running step at regular intervals."""
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(PLAIN_INTERVAL_SECONDS):
                for step in tuple(self._steps):
                    self.say(str(step))

        reporter = threading.Thread(target=repeat, daemon=True)
        reporter.start()
        try:
            yield
        finally:
            over.set()
            reporter.join()


def clock(seconds: float | None) -> str:
    """Format a duration as `3:07 min`, or as `2.5 s` below ten seconds."""
    seconds = seconds or 0.0
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
