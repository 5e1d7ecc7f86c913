"""Progress of an import: one updated line on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ops.gharchive.archive import Tally
from ops.output import print_line, redraw

_PLAIN_SECONDS = 10.0
_BAR_WIDTH = 30


class ImportProgress:
    """Shows a tally. `done` returns the share of the file that has been read, 0 to 1, or None."""

    def __init__(self, name: str, done: Callable[[], float | None]) -> None:
        self._name = name
        self._done = done
        self._is_terminal = sys.stderr.isatty()
        self._started = self._shown_at = time.monotonic()

    def show(self, tally: Tally) -> None:
        now = time.monotonic()
        if not self._is_terminal and now - self._shown_at < _PLAIN_SECONDS:
            return
        self._shown_at = now
        done = self._done()
        rate = tally.lines / max(now - self._started, 0.001)
        counts = f"{tally.lines} lines, {tally.rejected} rejected, {rate:.0f}/s"
        if not self._is_terminal:
            share = "" if done is None else f" {done:.0%}"
            print_line(f"{self._name}:{share} {counts}", err=True)
            return
        bar = "" if done is None else f"[{'#' * int(done * _BAR_WIDTH):<{_BAR_WIDTH}}] {done:4.0%} "
        redraw(f"{self._name}: {bar}{counts}")

    def clear(self) -> None:
        """Erase the updated line."""
        if self._is_terminal:
            redraw("")
