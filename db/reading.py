"""The block in which a task or thread lets replicas answer its reads, and how stale they may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from cache.scope import Holding, holding, value
from db.errors import InvalidInput
from db.rows import BEGINNING, Position

# The longest bound that a caller can set, in seconds: a day.
_LONGEST = 86_400


@dataclass(frozen=True)
class Reading:
    """What a replica must have replayed: everything up to `after`, and all that is older than `max_staleness`."""

    max_staleness: float | None
    after: Position


_current: ContextVar[Holding[Reading] | None] = ContextVar("groundwork_reading", default=None)


def current_reading() -> Reading | None:
    """Return the innermost `reading_block` of this task or thread, or None."""
    return value(_current)


@contextmanager
def reading_block(max_staleness: float | None, after: str | None) -> Iterator[None]:
    """Let replicas answer the reads of the block. Raises InvalidInput."""
    if max_staleness is not None and (
        isinstance(max_staleness, bool)
        or not isinstance(max_staleness, int | float)
        or not 0 < max_staleness <= _LONGEST
    ):
        raise InvalidInput(
            "max_staleness",
            f"{max_staleness!r:.40} is invalid; use a number above 0 and up to {_LONGEST}, or None",
        )
    with holding(_current, Reading(max_staleness, BEGINNING if after is None else Position.parse(after))):
        yield
