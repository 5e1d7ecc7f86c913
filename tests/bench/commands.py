"""Measure how long a command takes: help, completion, and `migrate up` with nothing pending.

The last is compared with alembic, and with sqlx-cli if it is on PATH or in the toolchain's cache, on the same database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from db.migrator import apply_pending, read_source
from infra.spec.checkout import Checkout
from tests import containers
from tests.bench.result import Result
from tests.bench.turns import take_turns

ROOT = Path(__file__).parents[2]
HELP_MS, NOTHING_PENDING_MS = 200.0, 200.0
_BIN = Path(sys.executable).parent
_ALEMBIC_ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool

with create_engine(os.environ["SQLALCHEMY_URL"], poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
_REVISION = """
revision = "{number}"
down_revision = {before}


def upgrade():
    pass


def downgrade():
    pass
"""
Run = Callable[[], object]


def measure() -> list[Result]:
    """Return the commands' part of the table."""
    with containers.postgres_server() as server, tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        url = server.database_url("migrator")
        apply_pending(url, read_source())
        ours = _command(_BIN / "groundwork", "migrate", "up", DATABASE_URL=url)
        with _alembic(Path(folder), url) as alembic:
            beside = take_turns(ours, alembic, 1)
        results = [
            _milliseconds("`groundwork --help`", _command(_BIN / "groundwork", "--help"), HELP_MS),
            _milliseconds("completion of a command", _completion(), HELP_MS),
            Result(
                "`migrate up`, nothing pending",
                [s * 1000 for s in beside.ours],
                "ms",
                at_most=NOTHING_PENDING_MS,
            ),
            Result("`migrate up` / `alembic upgrade head`, nothing pending", beside.ratios(), "x"),
        ]
        if sqlx := sqlx_program():
            theirs = _command(
                sqlx, "migrate", "run", "--source", str(ROOT / "db/migrations"), DATABASE_URL=url
            )
            results.append(
                Result(
                    "`migrate up` / `sqlx migrate run`, nothing pending",
                    take_turns(ours, theirs, 1).ratios(),
                    "x",
                )
            )
        return results


def _milliseconds(name: str, run: Run, at_most: float) -> Result:
    """Measure a command, and an empty Python program for comparison."""
    turns = take_turns(run, _command(sys.executable, "-c", "pass"), 1)
    bare = sorted(turns.theirs)[len(turns.theirs) // 2] * 1000
    return Result(
        name, [s * 1000 for s in turns.ours], "ms", at_most=at_most, note=f"Python alone {bare:.0f} ms"
    )


def _command(*words: str | Path, **variables: str) -> Run:
    def run() -> None:
        subprocess.run(words, env=os.environ | variables, cwd=ROOT, check=True, capture_output=True)

    return run


def _completion() -> Run:
    protocol = {"_GROUNDWORK_COMPLETE": "bash_complete", "COMP_WORDS": "groundwork ca", "COMP_CWORD": "1"}
    return _command(_BIN / "groundwork", **protocol)


@contextmanager
def _alembic(folder: Path, url: str) -> Iterator[Run]:
    """Create as many applied revisions as there are migrations."""
    versions = folder / "versions"
    versions.mkdir()
    (folder / "env.py").write_text(_ALEMBIC_ENV)
    before: str | None = None
    for migration in read_source():
        number = f"{migration.version:04}"
        (versions / f"{number}.py").write_text(_REVISION.format(number=number, before=repr(before)))
        before = number
    (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {folder}\n")
    variables = {"SQLALCHEMY_URL": url.replace("postgresql://", "postgresql+psycopg://", 1)}
    run = _command(_BIN / "alembic", "--config", folder / "alembic.ini", "upgrade", "head", **variables)
    run()
    yield run


def sqlx_program() -> Path | None:
    """Return an existing sqlx-cli. The benchmark does not build one."""
    if found := shutil.which("sqlx"):
        return Path(found)
    return next(iter(sorted(Checkout.here().cache_dir.glob("sqlx-cli/*/bin/sqlx"))), None)
