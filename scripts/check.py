"""Run every step of `make check`, one per core at a time, and print each step's output in one piece.

Every step runs even if another fails. The exit code is 1 if any step failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# The longest first, so that no core is idle while one step is left.
STEPS: dict[str, list[str]] = {
    "types": [str(BIN / "mypy")],
    "workflows": [sys.executable, "-m", "scripts.lint_workflows"],
    "generated files": [sys.executable, "-m", "scripts.fresh", "--check"],
    "imports": [str(BIN / "lint-imports"), "--no-logo"],
    "migrations": [str(BIN / "groundwork"), "migrate", "lint"],
    "queries": [str(BIN / "groundwork"), "sql", "check", "--offline"],
    "lint": [str(BIN / "ruff"), "check", "."],
    "entities": [sys.executable, "-m", "scripts.check_entities"],
    "words": [sys.executable, "-m", "scripts.words"],
    "format": [str(BIN / "ruff"), "format", "--check", "."],
}


def main(steps: dict[str, list[str]]) -> int:
    """Run the steps and return the exit code: 0, 1 if a step failed, or 130 after Ctrl-C."""
    began = time.monotonic()
    failed = []
    executor = ThreadPoolExecutor(os.cpu_count() or 2)
    futures = {executor.submit(_run, command): name for name, command in steps.items()}
    try:
        for future in as_completed(futures):
            code, output, seconds = future.result()
            if code:
                failed.append(futures[future])
            verdict = f"FAILED with exit code {code}" if code else "ok"
            print(f"== {futures[future]}: {verdict} ({seconds:.1f} s)", flush=True)
            if output.strip():
                print(output.strip("\n"), flush=True)
    except KeyboardInterrupt:
        # Ctrl-C reaches the running steps as well.
        executor.shutdown(cancel_futures=True)
        return 130
    executor.shutdown()
    summary = f"failed: {', '.join(sorted(failed))}" if failed else "all are clean"
    print(f"== {len(steps)} steps in {time.monotonic() - began:.0f} s, {summary}")
    return 1 if failed else 0


def _run(command: list[str]) -> tuple[int, str, float]:
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main(STEPS))
