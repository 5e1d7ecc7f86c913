"""Shows what is being put in place and for how long: a live line on a terminal, plain lines elsewhere.

Prints nothing for what is in place already. Knows nothing of what the steps do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# A build log that is read later should not drown in these.
PLAIN_INTERVAL_SECONDS = 15.0


class Step:
    """One thing being put in place; its lines may be changed from any thread."""

    def __init__(self, title: str, doing: str, expected_seconds: float | None = None) -> None:
        self.title = title
        self.doing = doing
        self.expected_seconds = expected_seconds
        self.started = self._phase_started = time.monotonic()
        self._done = 0
        self._total: int | None = None
        self._unit = ""

    def now(self, doing: str, expected_seconds: float | None = None) -> None:
        """Go on to another kind of work for the same thing."""
        self.doing, self.expected_seconds = doing, expected_seconds
        self._done, self._total, self._unit = 0, None, ""
        self._phase_started = time.monotonic()

    def count(self, done: int, total: int | None, unit: str) -> None:
        """How far it is, where that can be measured."""
        self._done, self._total, self._unit = done, total, unit

    @property
    def seconds(self) -> float:
        """What the whole of it has taken so far."""
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
        """The expected time, or what the pace so far comes to where that is more (a busy machine)."""
        if self._total and self._done > self._total / 10:
            return max(expected, elapsed * self._total / self._done)
        return max(expected, elapsed)


class Progress:
    """The lines of one run. The console is made when there is something to say: rich costs an import."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    @property
    def console(self) -> Console:
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True)
        return self._console

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str, doing: str, expected_seconds: float | None = None) -> Iterator[Step]:
        """Show a step until the block ends, then one line with what it took; nothing more if it fails."""
        step = Step(title, doing, expected_seconds)
        with self._live(step) if self.console.is_terminal else self._plain(step):
            yield step
        self.say(f"{step.title}: {step.doing}, done in {clock(step.seconds)}")

    @contextmanager
    def _live(self, step: Step) -> Iterator[None]:
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner = Spinner("dots")

        def line() -> RenderableType:
            spinner.update(text=Text(str(step), no_wrap=True, overflow="ellipsis"))
            return spinner

        with Live(get_renderable=line, console=self.console, refresh_per_second=8, transient=True):
            yield

    @contextmanager
    def _plain(self, step: Step) -> Iterator[None]:
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(PLAIN_INTERVAL_SECONDS):
                self.say(str(step))

        self.say(str(step) if step.expected_seconds else f"{step.title}: {step.doing}")
        teller = threading.Thread(target=repeat, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()


def clock(seconds: float | None) -> str:
    """`3:07`; a tenth below ten seconds, so that a short step does not read as none."""
    seconds = seconds or 0.0
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
