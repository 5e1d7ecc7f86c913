"""Deadlines: the deadline of a call, which all its steps share, and the one that a caller sets for a block of calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from cache.scope import Holding, holding, value
from db.errors import DeadlineExceeded, InvalidInput

# The longest deadline that a caller can set, in seconds: a day.
_LONGEST = 86_400


class Deadline:
    """The point in time at which a call times out, on the monotonic clock. `seconds` is the whole duration."""

    __slots__ = ("ends_at", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends_at = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left; negative after the deadline."""
        return self.ends_at - monotonic()

    def within(self, seconds: float) -> Deadline:
        """Return this deadline, or one `seconds` from now if that is earlier."""
        return Deadline(min(seconds, self.left()))

    def require(self, name: str) -> None:
        """Raise DeadlineExceeded before query `name` is sent, if the deadline has passed."""
        if self.ends_at <= monotonic():
            raise DeadlineExceeded(
                f"query {name}: the deadline of {shown(self.seconds)} passed before it was sent; nothing was changed"
            )

    def passed_while_waiting(self, name: str) -> DeadlineExceeded:
        """Return the error of query `name` that has waited for other tasks of its transaction until now."""
        return DeadlineExceeded(
            f"query {name}: the deadline of {shown(self.seconds)} passed while other tasks of the transaction used its"
            " connection; nothing was changed"
        )


_chosen: ContextVar[Holding[Deadline] | None] = ContextVar("groundwork_deadline", default=None)


def chosen_deadline() -> Deadline | None:
    """Return the deadline of the innermost `deadline_of_block` of this task or thread, or None."""
    return value(_chosen)


def end_of_block() -> float | None:
    """Return the monotonic time at which the block's deadline passes, or None if the caller has set none."""
    chosen = chosen_deadline()
    return None if chosen is None else chosen.ends_at


def next_deadline(seconds: float) -> Deadline:
    """Return the deadline of a call that starts now: `seconds` from now, or the block's deadline if it is earlier."""
    own, chosen = Deadline(seconds), chosen_deadline()
    return own if chosen is None else nearer(own, chosen)


def shown(seconds: float) -> str:
    """Return a number of seconds for a message: `8.0 s`, `0.25 s`."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"


def nearer(one: Deadline, other: Deadline | None) -> Deadline:
    """Return the deadline that passes first."""
    return one if other is None or one.ends_at <= other.ends_at else other


@contextmanager
def deadline_of_block(seconds: float) -> Iterator[None]:
    """Give all calls in the block one deadline, `seconds` from now, unless an outer block's deadline is earlier."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST:
        raise InvalidInput(
            "seconds", f"{seconds!r:.40} is invalid; use a number above 0 and up to {_LONGEST}"
        )
    with holding(_chosen, nearer(Deadline(seconds), chosen_deadline())):
        yield
