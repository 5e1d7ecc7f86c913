"""How often the tests repeat themselves: few times by default, the issue's counts with SCALE=full."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("SCALE") == "full"


def scaled(reduced: int, full: int) -> int:
    """The count for this run."""
    return full if IS_FULL else reduced
