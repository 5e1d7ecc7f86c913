"""One deadline per call, shared by every step of it."""

from __future__ import annotations

from time import monotonic


class Deadline:
    """A point in time by which a call has to be over."""

    __slots__ = ("_at", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; negative once it has passed."""
        return self._at - monotonic()

    def within(self, seconds: float) -> Deadline:
        """This deadline, or `seconds` from now if that comes first."""
        return Deadline(min(seconds, self.left()))
