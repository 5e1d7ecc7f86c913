"""The positions of the primary in its write history that a process knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from db.errors import OutcomeUnknown
from db.rows import BEGINNING, Position

# How many positions are kept, and the least time between two of them.
_SAMPLES = 64
_SAMPLE_SECONDS = 0.5


class KnownPositions:
    """The positions of the primary that a process has asked for, and its own last write.

    All methods may be called by several threads at once. Each replaces a whole value.
    """

    def __init__(self) -> None:
        # An object of its own for each write of this process.
        self._last_write: object = None
        # The last write before the primary was asked, and the answer, which is a position after that write.
        self._own: tuple[object, Position] = (None, BEGINNING)
        # When the primary was asked (monotonic), and its answer: the recent ones, and the last one.
        self._samples: deque[tuple[float, Position]] = deque(maxlen=_SAMPLES)
        self._last: tuple[float, Position] = (-1.0, BEGINNING)
        self._unknown_until = 0.0
        self._needed_at = -1.0

    @contextmanager
    def writing(self, seconds: float) -> Iterator[None]:
        """Record the write of the block when it ends, whatever its outcome.

        A write without an answer may still be committed in the next `seconds`.
        """
        try:
            yield
        except OutcomeUnknown:
            self._unknown_until = monotonic() + seconds
            raise
        except Exception:
            raise
        except BaseException:
            # Cancelled or interrupted, perhaps during COMMIT.
            self._unknown_until = monotonic() + seconds
            raise
        finally:
            self._last_write = object()

    def is_unknown(self) -> bool:
        """Return whether a write of this process may be committed later than any known position."""
        return monotonic() < self._unknown_until

    def before_asking(self) -> tuple[float, object]:
        """Return what `learned` needs. Call it before the primary is asked."""
        return monotonic(), self._last_write

    def learned(self, before: tuple[float, object], position: Position) -> None:
        """Record the primary's answer."""
        asked_at, last_write = before
        if self._own[0] is not last_write:
            self._own = (last_write, position)
        self._last = (asked_at, position)
        if not self._samples or asked_at - self._samples[-1][0] > _SAMPLE_SECONDS:
            self._samples.append(self._last)

    def forget(self) -> None:
        """Forget all positions, because a replica is on a later timeline. The next read asks again."""
        self._own = (None if self._last_write is None else object(), BEGINNING)
        self._last = (-1.0, BEGINNING)
        self._samples.clear()

    def required(self, max_staleness: float | None) -> Position | None:
        """Return the position that a replica must have reached, or None if the primary must be asked.

        It is after all writes of this process, and after all writes of others that are older than `max_staleness`.
        """
        self._needed_at = monotonic()
        last_write, own = self._own
        if self._last_write is not None and last_write is not self._last_write:
            return None
        if max_staleness is None:
            return own
        since = self._needed_at - max_staleness
        # The oldest, which replicas have had the most time to reach.
        for asked_at, position in (*self._samples, self._last):
            if asked_at >= since:
                return max(own, position)
        return None

    def needs_sample(self) -> bool:
        """Return whether there was a read since the primary was last asked, so that later ones need a new position."""
        return self._needed_at > self._last[0] + _SAMPLE_SECONDS
