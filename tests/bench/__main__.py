"""`make bench`: measure, print the table, write docs/benchmarks.md, and exit with 1 if a bar is missed.

`python -m tests.bench migrations` measures one part and writes no file. The other parts are `stack`, `idle`,
`commands`, `throughput`, `data-access` and `rust`. With PEERS=rust in the environment, all parts include `rust`, which
needs cargo.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from infra.docker.engine import docker
from tests.bench.result import Result

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
# Each part's title and module.
PARTS = {
    "data-access": ("Data access", "tests.bench.data_access"),
    "throughput": ("Throughput", "tests.bench.throughput"),
    "commands": ("Commands", "tests.bench.commands"),
    "migrations": ("Migrations", "tests.bench.migrations"),
    "stack": ("A stack", "tests.bench.stack"),
    "idle": ("An idle stack", "tests.bench.idle"),
    "rust": ("Compared with the drivers of Rust", "tests.bench.rust_peers"),
}
# Measured only if PEERS names them.
PEERS = ("rust",)
_PEERS = ("redis", "psycopg", "asyncpg", "sqlalchemy", "cashews", "aiocache", "alembic")
_HEAD = "| measured | median | spread | bar | |\n|---|---|---|---|---|\n"


def main(arguments: list[str]) -> int:
    if unknown := set(arguments) - PARTS.keys():
        print(f"bench: unknown part {min(unknown)!r}; the parts are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    peers = os.environ.get("PEERS")
    if peers is not None and peers not in PEERS:
        print(f"bench: PEERS is {peers!r}; use {' or '.join(PEERS)}, or unset it", file=sys.stderr)
        return 2
    every = [part for part in PARTS if part not in PEERS or part == peers]
    if "rust" in (arguments or every) and shutil.which("cargo") is None:
        print(
            "bench: cannot measure rust: cargo is not on PATH; install Rust or unset PEERS", file=sys.stderr
        )
        return 2
    results: dict[str, list[Result]] = {}
    for part in arguments or every:
        print(f"bench: measuring {part} ...", flush=True)
        results[part] = importlib.import_module(PARTS[part][1]).measure()
        print(_HEAD + "\n".join(result.row() for result in results[part]), flush=True)
    if not arguments:
        PAGE.write_text(_page(results))
    missed = [result.name for part in results.values() for result in part if result.is_missed]
    if missed:
        print(f"bench: missed by more than the spread: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _page(results: dict[str, list[Result]]) -> str:
    engine = docker("version", "--format", "{{.Server.Version}}").strip()
    peers = ", ".join(f"{peer} {version(peer)}" for peer in _PEERS)
    tables = "".join(
        f"\n## {PARTS[part][0]}\n\n{_HEAD}" + "\n".join(result.row() for result in measured) + "\n"
        for part, measured in results.items()
    )
    return f"""# Benchmarks

This page has the results of the last `make bench`, which compares groundwork with plain drivers, similar libraries
and a plain Docker script. Read it before you change a fast path, and run `make bench` afterwards. With
`PEERS=rust`, which needs cargo, it also compares the data access with redis-rs and sqlx.

All numbers are from one run: medians and spread over rounds that take turns, so that a change of the machine's pace
affects both sides. A bar is missed if even the best round misses it.

{os.cpu_count()} cores, Python {platform.python_version()}, Docker {engine}; {peers}.
Servers are temporary containers with TLS, on the same machine. sqlx-cli is the `sqlx` on PATH, or else that of the
tests, which is built without optimization.
{tables}"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
