"""The types of the commands' options that are numbers with a fraction."""

from __future__ import annotations

import math
from typing import Any

import click

# The longest limit that Postgres can wait for: 2**31 - 1 milliseconds.
MOST_SECONDS = 2_147_483


class FiniteRange(click.FloatRange):
    """A range of floats. Unlike click's, it refuses nan, which every comparison accepts, and inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Fails for one that is not finite or out of range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


def seconds(least: float = 0, most: float = MOST_SECONDS) -> FiniteRange:
    """Return the type of an option that is a duration in seconds."""
    return FiniteRange(least, most)
