"""The types of the commands' options that are numbers."""

from __future__ import annotations

import math
from typing import Any

import click

# The longest limit that Postgres can wait for: 2**31 - 1 milliseconds.
MOST_SECONDS = 2_147_483


class IntegerRange(click.IntRange):
    """A range of integers. Unlike click's, it does not call the value "not a valid integer range"."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Fails for one that is not an integer or out of range."""
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is not an integer; write it in digits.", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range of floats. Unlike click's, it refuses nan, which every comparison accepts, and inf."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Fails for one that is not finite or out of range."""
        try:
            float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number.", param, ctx)
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


def seconds(least: float = 0, most: float = MOST_SECONDS) -> FiniteRange:
    """Return the type of an option that is a duration in seconds."""
    return FiniteRange(least, most)
