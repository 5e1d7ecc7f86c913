"""Import one file: split it into batches, pass them to a runner, and write rejected lines to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ops.errors import OpsError
from ops.gharchive.batch import BatchResult, Runner
from ops.gharchive.formats import without_events
from ops.gharchive.lines import Damaged, Line, LineSource
from ops.gharchive.rejects import RejectFile

BATCH_LINES = 2000
# While it is loaded, a line takes about five times its bytes.
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
    """The import of one file."""

    source: LineSource
    rejects: RejectFile
    runner: Runner
    on_batch: Callable[[Tally], None]
    batch_lines: int = BATCH_LINES
    tally: Tally = field(default_factory=Tally)
    _first_rejected: tuple[Line, str] | None = field(default=None, init=False)

    def run(self) -> None:
        """Load the file. If it is damaged, load what precedes the damage and raise Damaged.

        Raise NoEvents if no line is an event. `tally` counts also what was done before an error.
        """
        damage: Damaged | None = None
        try:
            for lines in self._batches():
                self.runner.submit(lines, self._add)
        except Damaged as error:
            damage = error
        self.runner.finish()
        if damage:
            raise damage
        tally = self.tally
        if tally.loaded + tally.known == 0:
            raise NoEvents(f"{self.source.name}: no event in {tally.lines} lines: {self._reason()}")

    def _batches(self) -> Iterator[list[Line]]:
        lines: list[Line] = []
        size = 0
        try:
            for line in self.source:
                lines.append(line)
                size += len(line.raw)
                if len(lines) >= self.batch_lines or size >= _BATCH_BYTES:
                    yield lines
                    lines, size = [], 0
        except Damaged:
            if lines:
                yield lines
            raise
        if lines:
            yield lines

    def _add(self, result: BatchResult) -> None:
        tally = self.tally
        tally.lines += result.lines
        tally.loaded += result.loaded
        tally.known += result.known
        for line, reason in result.rejected:
            if self._first_rejected is None:
                self._first_rejected = (line, reason)
            self.rejects.add(line.number, line.raw, reason)
            tally.rejected += 1
        self.on_batch(tally)

    def _reason(self) -> str:
        if self._first_rejected is None:
            return "all of them are blank; download the file again"
        line, reason = self._first_rejected
        return without_events(line.raw) or f"line {line.number} was rejected: {reason}"
