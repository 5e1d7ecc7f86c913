"""How long a stack takes: unchanged, fresh, and beside a plain docker script that starts the same containers.

`make bench` prints medians and ratios, and exits 1 where a bar is missed. It works in a copied checkout, so
that no stack of yours is touched; toolchain and images are cached by one run before the counted ones.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from infra.docker.engine import docker
from tests.bench.plain_docker import PlainStack
from tests.infra.checkout import Checkout

RUNS = 3
UNCHANGED_SECONDS, FRESH_SECONDS, FRESH_RATIO = 12.0, 60.0, 2.0


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        checkout = Checkout.copy_to(Path(folder))
        checkout.settings()
        try:
            checkout.succeed("up")
            return _report(*_measure(checkout))
        finally:
            checkout.run("down", "--volumes", "--yes")


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


def _report(unchanged: list[float], fresh: list[float], plain: list[float]) -> int:
    ratios = [ours / theirs for ours, theirs in zip(fresh, plain, strict=True)]
    engine = docker("version", "--format", "{{.Server.Version}}").strip()
    print(f"Docker {engine}, {RUNS} runs each: median (least to most)")
    rows = [
        ("up, unchanged stack", unchanged, "s", UNCHANGED_SECONDS),
        ("up, fresh stack, toolchain and images cached", fresh, "s", FRESH_SECONDS),
        ("the same containers by a plain docker script", plain, "s", None),
        ("fresh up / plain docker script", ratios, "x", FRESH_RATIO),
    ]
    missed = []
    for name, values, unit, bar in rows:
        median = statistics.median(values)
        verdict = "" if bar is None else f"   bar {bar:g} {unit}: {'held' if median <= bar else 'MISSED'}"
        print(f"  {name:<46}{median:6.2f} {unit} ({min(values):.2f} to {max(values):.2f}){verdict}")
        # A miss within the spread is the machine's noise.
        if bar is not None and min(values) > bar:
            missed.append(name)
    if missed:
        print(f"bench: missed by more than the spread: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
