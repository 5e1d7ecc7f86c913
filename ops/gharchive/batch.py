"""Parse and load a batch of lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from db.errors import DbError, InvalidInput, QueryFailed
from ops.gharchive.event import Event, Rejected, parse_event
from ops.gharchive.lines import MAX_LINE_BYTES, Line
from ops.gharchive.loader import Loader

# Events with their lines.
Parsed = Sequence[tuple[Line, Event]]


class BatchResult(msgspec.Struct):
    """The counts of a batch, and the lines that were rejected, with the reasons. `known` events were stored already."""

    lines: int
    loaded: int = 0
    known: int = 0
    rejected: list[tuple[Line, str]] = []


class Runner(Protocol):
    """Loads batches in the order in which they are submitted."""

    def submit(self, lines: list[Line], done: Callable[[BatchResult], None]) -> None:
        """Load lines now or later, and then call `done`, also if loading fails. Raise the errors of earlier batches."""

    def finish(self) -> None:
        """Wait until all submitted batches are loaded."""


class InlineRunner:
    """Loads each batch at once, in this process. `loader` is None for a dry run."""

    def __init__(self, loader: Loader | None) -> None:
        self._loader = loader

    def submit(self, lines: list[Line], done: Callable[[BatchResult], None]) -> None:
        result = BatchResult(len(lines))
        try:
            load_events(self._loader, parse_lines(lines, result), result)
        finally:
            done(result)

    def finish(self) -> None:
        pass


def parse_lines(lines: Sequence[Line], result: BatchResult) -> Parsed:
    """Return the events of lines that are valid, and add the others to `result`."""
    parsed = []
    for line in lines:
        if not line.raw.strip():
            continue
        try:
            if line.is_too_long:
                raise Rejected(f"is longer than {MAX_LINE_BYTES} bytes")
            parsed.append((line, parse_event(line.raw)))
        except Rejected as error:
            result.rejected.append((line, str(error)))
    return parsed


def load_events(loader: Loader | None, batch: Parsed, result: BatchResult) -> None:
    """Load events. If the server rejects a row, halve the batch until the faulty line is found."""
    if not batch:
        return
    if loader is None:
        result.loaded += len(batch)
        return
    try:
        new = loader.load([event for _, event in batch])
    except (QueryFailed, InvalidInput) as error:
        if not _blames_a_row(error):
            raise
        if len(batch) == 1:
            result.rejected.append((batch[0][0], str(error)))
            return
        middle = len(batch) // 2
        load_events(loader, batch[:middle], result)
        load_events(loader, batch[middle:], result)
    else:
        result.loaded += new
        result.known += len(batch) - new


def _blames_a_row(error: DbError) -> bool:
    """Return whether the error is caused by a row: an invalid value or a violated constraint."""
    return isinstance(error, InvalidInput) or (error.sqlstate or "")[:2] in ("22", "23")
