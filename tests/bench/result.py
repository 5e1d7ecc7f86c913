"""A line of the table: the measured values of each round, and their bar."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """A measurement. `values` are in `unit`, one per round. A bar is missed only if even the best round misses it."""

    name: str
    values: Sequence[float]
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def is_missed(self) -> bool:
        return (self.at_most is not None and min(self.values) > self.at_most) or (
            self.at_least is not None and max(self.values) < self.at_least
        )

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def bar(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}"
        return "" if self.at_least is None else f">= {self.at_least:g} {self.unit}"

    @property
    def verdict(self) -> str:
        if not self.bar:
            return ""
        if self.is_missed:
            return "MISSED"
        is_over = (self.at_most is not None and self.median > self.at_most) or (
            self.at_least is not None and self.median < self.at_least
        )
        return "over it, within the spread" if is_over else "held"

    def row(self) -> str:
        """Return the row of the Markdown table."""
        spread = f"{min(self.values):.2f} to {max(self.values):.2f}"
        name = f"{self.name} ({self.note})" if self.note else self.name
        return f"| {name} | {self.median:.2f} {self.unit} | {spread} | {self.bar} | {self.verdict} |"
