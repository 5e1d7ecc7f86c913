"""Import one file: parse lines to events, load events in batches, and write rejected lines to a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from db.errors import DbError, InvalidInput, QueryFailed
from ops.errors import OpsError
from ops.gharchive.event import Event, Rejected, parse_event
from ops.gharchive.formats import without_events
from ops.gharchive.lines import MAX_LINE_BYTES, Damaged, Line, LineSource
from ops.gharchive.loader import Loader
from ops.gharchive.rejects import RejectFile

BATCH_LINES = 2000
# While it is loaded, an event takes about five times the bytes of its line.
_BATCH_BYTES = 4 << 20


class NoEvents(OpsError):
    """No line of the file is an event. The message has the reason."""


@dataclass
class Tally:
    """Counts of a file's lines. `known` events were stored already."""

    lines: int = 0
    loaded: int = 0
    known: int = 0
    rejected: int = 0


@dataclass
class ArchiveImport:
    """The import of one file. `loader` is None for a dry run."""

    source: LineSource
    rejects: RejectFile
    loader: Loader | None
    on_batch: Callable[[Tally], None]
    batch_lines: int = BATCH_LINES
    tally: Tally = field(default_factory=Tally)
    _first_rejected: tuple[Line, str] | None = field(default=None, init=False)

    def run(self) -> None:
        """Load the file. If it is damaged, load what precedes the damage and raise Damaged.

        Raise NoEvents if no line is an event. `tally` counts also what was done before an error.
        """
        tally = self.tally
        batch: list[tuple[Line, Event]] = []
        size = 0
        try:
            for line in self.source:
                tally.lines += 1
                if not line.raw.strip():
                    continue
                try:
                    if line.is_too_long:
                        raise Rejected(f"is longer than {MAX_LINE_BYTES} bytes")
                    batch.append((line, parse_event(line.raw)))
                except Rejected as error:
                    self._reject(line, str(error), tally)
                    continue
                size += len(line.raw)
                if len(batch) >= self.batch_lines or size >= _BATCH_BYTES:
                    self._load(batch, tally)
                    batch, size = [], 0
        except Damaged:
            self._load(batch, tally)
            raise
        self._load(batch, tally)
        if tally.loaded + tally.known == 0:
            raise NoEvents(f"{self.source.name}: no event in {tally.lines} lines: {self._reason()}")

    def _reason(self) -> str:
        if self._first_rejected is None:
            return "all of them are blank; download the file again"
        line, reason = self._first_rejected
        return without_events(line.raw) or f"line {line.number} was rejected: {reason}"

    def _load(self, batch: list[tuple[Line, Event]], tally: Tally) -> None:
        if batch:
            self._load_or_halve(batch, tally)
            self.on_batch(tally)

    def _load_or_halve(self, batch: list[tuple[Line, Event]], tally: Tally) -> None:
        """Load a batch. If a row is rejected, halve the batch until the faulty line is found."""
        if self.loader is None:
            tally.loaded += len(batch)
            return
        try:
            new = self.loader.load([event for _, event in batch])
        except (QueryFailed, InvalidInput) as error:
            if not _blames_a_row(error):
                raise
            if len(batch) == 1:
                self._reject(batch[0][0], str(error), tally)
                return
            middle = len(batch) // 2
            self._load_or_halve(batch[:middle], tally)
            self._load_or_halve(batch[middle:], tally)
        else:
            tally.loaded += new
            tally.known += len(batch) - new

    def _reject(self, line: Line, reason: str, tally: Tally) -> None:
        if self._first_rejected is None:
            self._first_rejected = (line, reason)
        self.rejects.add(line.number, line.raw, reason)
        tally.rejected += 1


def _blames_a_row(error: DbError) -> bool:
    """Return whether the error is caused by a row: an invalid value or a violated constraint."""
    return isinstance(error, InvalidInput) or (error.sqlstate or "")[:2] in ("22", "23")
