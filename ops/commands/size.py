"""`groundwork size`: estimate the servers for a load; connects to nothing."""

from __future__ import annotations

from pathlib import Path

import click

from ops.number_range import FiniteRange, IntegerRange
from ops.output import print_json, print_lines

_rate = FiniteRange(0, 10_000_000)


@click.command()
@click.option("--users", required=True, type=IntegerRange(1, 10**10), help="Number of stored users")
@click.option("--reads", required=True, type=_rate, metavar="PER_SECOND", help="Reads per second at the peak")
@click.option(
    "--writes", required=True, type=_rate, metavar="PER_SECOND", help="Writes per second at the peak"
)
@click.option(
    "--retention-days", default=90, show_default=True, type=IntegerRange(1, 36_500),
    help="Days for which activities are kept",
)  # fmt: skip
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with prices, for a monthly estimate",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def size(
    users: int, reads: float, writes: float, retention_days: int, prices: Path | None, as_json: bool
) -> None:
    """Estimate AWS classes, memory and storage for a load

    Calculates from the measured costs in docs/benchmarks.md. Each result is a range, because your machines, network
    and data differ from the benchmark's: docs/scaling.md describes the calculation and the file of prices.
    """
    from ops.sizing import text
    from ops.sizing.estimate import Load, estimates
    from ops.sizing.figures import read_figures
    from ops.sizing.prices import read_prices

    load = Load(users, reads, writes, retention_days)
    found = estimates(load, read_figures())
    known = None if prices is None else read_prices(prices, found)
    if as_json:
        print_json(text.document(load, found, known))
    else:
        print_lines(text.lines(load, found, known))
