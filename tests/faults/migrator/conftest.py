"""Fixtures to run migrate commands that are killed, and to compare databases afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from db.migrator.catalog import Catalog, catalog_of
from tests.conftest import Connection, Database
from tests.integration.migrator.conftest import folder, owner, write

__all__ = ["folder", "owner", "write"]
KILLED = -9

Picture = tuple[Catalog, list[tuple[object, ...]]]


@dataclass(frozen=True)
class Outcome:
    """The result of one process: exit code (or KILLED), stdout, the line of its error, and the number of its steps."""

    code: int
    out: str
    error: str
    steps: int


# run("up", "--to", "3", kill_at=4) returns one Outcome. With count=16 it runs 16 processes at once.
Run = Callable[..., list[Outcome]]


@pytest.fixture(scope="session")
def victim() -> Iterator[Callable[[dict[str, object]], list[Outcome]]]:
    """Send requests to tests.faults.migrator.victim, in one process for the session."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.migrator.victim"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_URL", "PG"))},
    ) as process:

        def ask(request: dict[str, object]) -> list[Outcome]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            try:
                return [Outcome(*answer) for answer in json.loads(process.stdout.readline())]
            except BaseException:
                # A late answer would be read as the answer to the next request.
                process.kill()
                raise

        yield ask
        process.stdin.close()  # type: ignore[union-attr]


@pytest.fixture
def run(victim: Callable[[dict[str, object]], list[Outcome]], empty_database: Database, folder: Path) -> Run:
    """Run a migrate command with the test's folder and database, in separate processes."""

    def start(
        *arguments: str,
        kill_at: int | None = None,
        delay: float = 0.0,
        count: int = 1,
        naive: bool = False,
        needs_database: bool = True,
    ) -> list[Outcome]:
        where = ["--url", empty_database.url("migrator")] if needs_database else []
        return victim(
            {
                "arguments": [*arguments, "--folder", str(folder), *where],
                "kill_at": kill_at,
                "delay": delay,
                "count": count,
                "naive": naive,
            }
        )

    return start


def picture(connection: Connection) -> Picture:
    """Return the catalog, and those columns of the ledger that must be equal for two tools."""
    exists = connection.execute("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetchone() == (True,)
    rows = (
        connection.execute(
            "SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY version"
        ).fetchall()
        if exists
        else []
    )
    with connection.transaction():
        return catalog_of(connection), rows
