"""The measured costs: rows of docs/benchmarks.md, which `make bench` writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError

_PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_FEED = re.compile(r"^\| feed page of 50 from Redis .*\(([\d,]+) bytes", re.MULTILINE)
_CORES = re.compile(r"^(\d+) cores, ", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """The median of a figure, and the lowest and highest round."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class Figures:
    """Costs in CPU seconds: of a read in the application and in the servers, and of a write in both together.

    The cost of a write is an upper limit: with 10 % writes, the benchmark kept all cores of the machine busy.
    `feed_bytes` is the size of a cached feed of 50 activities of GitHub.
    """

    read_application: Measured
    read_servers: Measured
    write: float
    feed_bytes: int


def read_figures(page: Path = _PAGE) -> Figures:
    """Return the figures of the last `make bench`. Raise OpsError if the page or one of its rows is missing."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise OpsError(
            f"cannot read the measured costs in {page}: {error.strerror}; run this command in a checkout of groundwork"
        ) from error
    cores, feed = _CORES.search(text), _FEED.search(text)
    if cores is None or feed is None:
        what = "the machine's cores" if cores is None else "the size of a feed page"
        raise OpsError(f"{page} does not name {what}; run `make bench` to write it again")
    application = _scaled(_row(text, page, "CPU time of a read, client", "us"))
    servers = _scaled(_row(text, page, "CPU time of a read, servers", "us"))
    rate = _row(text, page, "90 % reads, throughput", "ops/s").median
    write = (int(cores[1]) / rate - 0.9 * (application.median + servers.median)) / 0.1
    return Figures(application, servers, write, int(feed[1].replace(",", "")))


def _row(text: str, page: Path, name: str, unit: str) -> Measured:
    number = r"([\d.]+)"
    found = re.search(
        rf"^\| {re.escape(name)}(?: \([^|]*\))? \| {number} {unit} \| {number} to {number} \|",
        text,
        re.MULTILINE,
    )
    if found is None:
        raise OpsError(f"{page} has no row {name!r} in {unit}; run `make bench` to write it again")
    median, least, most = map(float, found.groups())
    return Measured(least, median, most)


def _scaled(microseconds: Measured) -> Measured:
    return Measured(microseconds.least / 1e6, microseconds.median / 1e6, microseconds.most / 1e6)
