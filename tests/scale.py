"""How often tests repeat and how strictly they are timed: as the promises state with SCALE=full, otherwise less."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("SCALE") == "full"


def scaled(reduced: int, full: int) -> int:
    """Return the count for this run."""
    return full if IS_FULL else reduced


def limit(promised_seconds: float) -> float:
    """Return the time that a test allows for a promised duration.

    At full scale one other test runs at the same time at most. Otherwise other tests keep the cores busy, and the limit
    only distinguishes what is bounded from what is not.
    """
    return promised_seconds * (3 if IS_FULL else 20)
