"""The deadline of a call, shared by all its steps."""

from __future__ import annotations

from time import monotonic


class Deadline:
    """The point in time at which a call times out, on the monotonic clock. `seconds` is the whole duration."""

    __slots__ = ("_at", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left; negative after the deadline."""
        return self._at - monotonic()

    def within(self, seconds: float) -> Deadline:
        """Return this deadline, or one `seconds` from now if that is earlier."""
        return Deadline(min(seconds, self.left()))
