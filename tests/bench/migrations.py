"""Measure `migrate up` on a new database, with many small files and with one file of many rows, and `migrate lint`.

It takes turns with sqlx-cli, if that is on PATH or in the toolchain's cache. Each run has its own database.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.spec import roles
from tests import containers
from tests.bench.commands import sqlx_program
from tests.bench.result import Result
from tests.bench.turns import seconds
from tests.conftest import cloned_database

FILES, ROWS, LINTED_ROWS = 165, 200_000, 1_000
ROUNDS = 5
_GROUNDWORK = Path(sys.executable).parent / "groundwork"


def measure() -> list[Result]:
    """Return the migrations' part of the table."""
    with containers.postgres_server(in_memory=True) as server, tempfile.TemporaryDirectory() as folder:
        return [
            *_measured(server, _many_files(Path(folder)), f"{FILES} files"),
            *_measured(server, _many_rows(Path(folder)), f"{ROWS:,} INSERT statements in one file", 1.5),
            _lint(Path(folder)),
        ]


def _lint(folder: Path) -> Result:
    """Measure the time that a pattern with a quadratic worst case would make noticeable."""
    linted = folder / "linted"
    linted.mkdir()
    inserts = "".join(f"INSERT INTO t VALUES ({n}, '{'text ' * 12}');\n" for n in range(LINTED_ROWS))
    (linted / "0001_rows.sql").write_text(inserts)
    words = [_GROUNDWORK, "migrate", "lint", "--no-squawk", "--disable", "missing-down", "--folder", linted]
    times = [
        seconds(lambda: subprocess.run(words, check=True, capture_output=True), 1) for _ in range(ROUNDS)
    ]
    name = f"`migrate lint`, {LINTED_ROWS:,} INSERT statements, {len(inserts) // 1024} KiB"
    return Result(name, times, "s", at_most=0.5)


def _measured(
    server: containers.Server, folder: Path, what: str, at_most: float | None = None
) -> list[Result]:
    """Measure both programs in turns, after one round that does not count."""
    ours, theirs = [], []
    sqlx = sqlx_program()
    for number in range(ROUNDS + 1):
        mine = _seconds(server, [_GROUNDWORK, "migrate", "up", "--folder", folder])
        yours = None if sqlx is None else _seconds(server, [sqlx, "migrate", "run", "--source", folder])
        if number:
            ours.append(mine)
            theirs += [] if yours is None else [yours]
    results = [Result(f"`migrate up`, {what}", ours, "s")]
    if theirs:
        ratios = [mine / yours for mine, yours in zip(ours, theirs, strict=True)]
        results.append(Result(f"`migrate up` / `sqlx migrate run`, {what}", ratios, "x", at_most=at_most))
    return results


def _seconds(server: containers.Server, words: list[str | Path]) -> float:
    with cloned_database(server, roles.DATABASE) as database:
        variables = os.environ | {"DATABASE_URL": database.url("migrator")}
        return seconds(lambda: subprocess.run(words, env=variables, check=True, capture_output=True), 1)


def _many_files(folder: Path) -> Path:
    files = folder / "files"
    files.mkdir()
    for number in range(1, FILES + 1):
        (files / f"{number:04}_t{number}.sql").write_text(
            f"CREATE TABLE t{number} (id bigint PRIMARY KEY, name text NOT NULL);\n"
            f"CREATE INDEX t{number}_name ON t{number} (name);\n"
        )
    return files


def _many_rows(folder: Path) -> Path:
    rows = folder / "rows"
    rows.mkdir()
    inserts = "".join(
        f"INSERT INTO t (id, name, n) VALUES ({number}, 'name of {number}', {number % 100});\n"
        for number in range(ROWS)
    )
    (rows / "1_rows.sql").write_text(f"CREATE TABLE t (id int PRIMARY KEY, name text, n int);\n{inserts}")
    return rows
