"""A folder of migrations to be filled by a test, a migrator in a process of its own, and the ledger read raw."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Connection, Database

Write = Callable[..., Path]
Spawn = Callable[[], subprocess.Popen[str]]

_RUN = """
import sys
from pathlib import Path
from db.migrator import apply_pending, read_source
done = apply_pending(sys.argv[1], read_source(Path(sys.argv[2])))
print(" ".join(applied.migration.name for applied in done))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "migrations"
    path.mkdir()
    return path


@pytest.fixture
def write(folder: Path) -> Write:
    """write("1_a.up.sql", "CREATE ...") puts a file into the folder."""

    def write_file(name: str, sql: str) -> Path:
        path = folder / name
        path.write_text(sql)
        return path

    return write_file


@pytest.fixture
def owner(empty_database: Database) -> Iterator[Connection]:
    """A session of migrator, so as owner, in autocommit."""
    with psycopg.connect(empty_database.url("migrator"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def spawn(empty_database: Database, folder: Path) -> Iterator[Spawn]:
    """Starts a migrator over the folder in a process of its own; killed at the test's end."""
    with ExitStack() as stack:

        def start() -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _RUN, empty_database.url("migrator"), str(folder)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def applied_versions(connection: Connection) -> list[int]:
    """The versions that the ledger has as applied, read raw."""
    rows = connection.execute("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
    return [int(str(row[0])) for row in rows]


def tables(connection: Connection) -> set[str]:
    """The application's tables, without the ledger."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'groundwork'::regnamespace AND relkind IN ('r', 'p')"
    )
    return {str(row[0]) for row in rows} - {"_sqlx_migrations"}
