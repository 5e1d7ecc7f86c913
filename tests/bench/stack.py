"""Measure `up`: unchanged, fresh, and compared with a plain docker script that starts the same containers.

Works in a copy of the checkout, so that no stack of the user is changed. A first run, which does not count, caches
toolchain and images.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.plain_docker import PlainStack
from tests.bench.result import Result
from tests.infra.checkout import CheckoutCopy

RUNS = 3
UNCHANGED_SECONDS, FRESH_SECONDS, FRESH_RATIO = 12.0, 60.0, 2.0


def measure() -> list[Result]:
    """Return the stack's part of the table."""
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        checkout = CheckoutCopy.copy_to(Path(folder))
        checkout.settings()
        try:
            checkout.succeed("up")
            unchanged, fresh, plain = _measure(checkout)
        finally:
            checkout.run("down", "--volumes", "--yes")
    ratios = [ours / theirs for ours, theirs in zip(fresh, plain, strict=True)]
    return [
        Result("`up`, unchanged stack", unchanged, "s", at_most=UNCHANGED_SECONDS),
        Result("`up`, fresh stack, toolchain and images cached", fresh, "s", at_most=FRESH_SECONDS),
        Result("the same containers by a plain docker script", plain, "s"),
        Result("fresh `up` / plain docker script", ratios, "x", at_most=FRESH_RATIO),
    ]


def _measure(checkout: CheckoutCopy) -> tuple[list[float], list[float], list[float]]:
    unchanged = [_seconds(lambda: checkout.succeed("up")) for _ in range(RUNS)]
    fresh, plain = [], []
    for _ in range(RUNS):
        # In turns, so that a change of the machine's load affects both sides.
        script = PlainStack.like(checkout.identity, "dev")
        try:
            plain.append(_seconds(script.start))
        finally:
            script.remove()
        checkout.succeed("down", "--volumes", "--yes")
        fresh.append(_seconds(lambda: checkout.succeed("up")))
    return unchanged, fresh, plain


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
