"""How long a stack takes: unchanged, fresh, and beside a plain docker script that starts the same containers.

It works in a copied checkout, so that no stack of yours is touched; toolchain and images are cached by one
run before the counted ones.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.plain_docker import PlainStack
from tests.bench.result import Result
from tests.infra.checkout import Checkout

RUNS = 3
UNCHANGED_SECONDS, FRESH_SECONDS, FRESH_RATIO = 12.0, 60.0, 2.0


def measure() -> list[Result]:
    """The stack's part of the table."""
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        checkout = Checkout.copy_to(Path(folder))
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


def _measure(checkout: Checkout) -> tuple[list[float], list[float], list[float]]:
    unchanged = [_seconds(lambda: checkout.succeed("up")) for _ in range(RUNS)]
    fresh, plain = [], []
    for _ in range(RUNS):
        # In turn, so that a change of the machine's pace meets both sides.
        script = PlainStack.like(checkout.world, "dev")
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
