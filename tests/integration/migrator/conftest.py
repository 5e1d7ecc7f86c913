"""Fixtures: a folder of migrations, the commands, a migrator in a separate process, and direct access to the ledger."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from infra.docker.engine import psql
from ops.commands.migrate import migrate
from ops.errors import OpsError
from ops.migrations import verification
from ops.servers.scratch_server import ScratchServer, scratch_server
from tests.conftest import Connection, Database
from tests.containers import wait_until
from tests.superuser import Superuser

Write = Callable[..., Path]
Spawn = Callable[[], subprocess.Popen[str]]

Run = Callable[..., "Outcome"]

_RUN = """
import sys
from pathlib import Path
from db.migrator import apply_pending, read_source
done = apply_pending(sys.argv[1], read_source(Path(sys.argv[2])))
print(" ".join(applied.migration.name for applied in done))
"""


class SharedScratch(ScratchServer):
    """One server for many tests. Each of its databases gets a new name."""

    def __init__(self, server: ScratchServer) -> None:
        self.__dict__.update(server.__dict__)
        self.superuser = Superuser(server.container)
        self._names = map("{}_{}".format, itertools.repeat("d"), itertools.count())

    def psql(self, sql: str, database: str = "postgres") -> str:
        return self.superuser.run(sql, database)

    def make_database(self, name: str) -> str:
        return super().make_database(next(self._names))

    def make_plain_database(self, name: str) -> str:
        return super().make_plain_database(next(self._names))


@dataclass(frozen=True)
class Outcome:
    """Exit code and stdout of a command. `error` is the line that ops.cli would print."""

    code: int
    out: str
    error: str = ""


@pytest.fixture(scope="package")
def shared_scratch(docker_engine: None) -> Iterator[SharedScratch]:
    # On disk, because many databases do not fit into memory.
    with scratch_server(on_disk=True) as server:
        shared = SharedScratch(server)
        yield shared
        shared.superuser.close()


@pytest.fixture
def verified_on_shared_server(shared_scratch: SharedScratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` and `baseline` use one temporary server for all tests."""
    monkeypatch.setattr(verification, "scratch_server", lambda **_: nullcontext(shared_scratch))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "migrations"
    path.mkdir()
    return path


@pytest.fixture
def write(folder: Path) -> Write:
    """write("1_a.up.sql", "CREATE ...") creates a file in the folder."""

    def write_file(name: str, sql: str) -> Path:
        path = folder / name
        path.write_text(sql)
        return path

    return write_file


@pytest.fixture
def owner(empty_database: Database) -> Iterator[Connection]:
    """A session of login migrator, which acts as role owner, in autocommit mode."""
    with psycopg.connect(empty_database.url("migrator"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def run(empty_database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run("status", "--json") runs the command with the test's folder and database."""
    monkeypatch.setenv("DATABASE_URL", empty_database.url("migrator"))

    def invoke(*arguments: str, folder: Path | None = folder) -> Outcome:
        options = [] if folder is None else ["--folder", str(folder)]
        result = CliRunner().invoke(migrate, [*arguments, *options])
        if isinstance(result.exception, OpsError):
            return Outcome(result.exception.exit_code, result.stdout, str(result.exception))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def spawn(empty_database: Database, folder: Path) -> Iterator[Spawn]:
    """Start a migrator with the test's folder in a separate process, which is killed at the end of the test."""
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
    """Return the applied versions in the ledger, read by SQL."""
    rows = connection.execute("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
    return [int(str(row[0])) for row in rows]


def tables(connection: Connection) -> set[str]:
    """Return the application's tables, without the ledger."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'groundwork'::regnamespace AND relkind IN ('r', 'p')"
    )
    return {str(row[0]) for row in rows} - {"_sqlx_migrations"}


@contextmanager
def building(
    database: Database,
    statement: str,
    *,
    as_superuser: bool = False,
    older_statement: str = "INSERT INTO t VALUES (7)",
) -> Iterator[int]:
    """Run a statement in another session, which waits for an older transaction in the block. Yield its process id."""

    def run() -> None:
        if as_superuser:
            path = "SET search_path = groundwork;\n"
            psql(database.server.container, path + statement, database=database.name)
        else:
            with psycopg.connect(database.url("migrator"), autocommit=True) as session:
                session.execute(statement.encode())

    def waiting() -> list[str]:
        return database.psql(
            f"SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '{statement}%'"
        ).split()

    with psycopg.connect(database.url("migrator")) as older, ThreadPoolExecutor(1) as pool:
        older.execute(older_statement.encode())
        running = pool.submit(run)
        try:
            wait_until(lambda: running.done() or bool(waiting()))
            (pid,) = waiting()
            yield int(pid)
        finally:
            older.rollback()
            running.result(timeout=60)
