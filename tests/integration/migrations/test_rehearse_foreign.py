"""`groundwork migrate rehearse` on a database that groundwork did not provision, with the application's own queries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from db.migrator import apply_pending, read_source
from infra.spec.roles import OWNER
from ops.errors import Exit
from ops.migrations.rehearsal import rehearsal
from ops.servers.scratch_server import ScratchServer
from tests.containers import Server
from tests.integration.migrations.conftest import invoke
from tests.integration.migrator.conftest import Outcome, SharedScratch, Write
from tests.promises import promise

DATABASE = "foreign_shop"
BASE = """
CREATE SCHEMA shop;
CREATE TYPE shop.size AS ENUM ('small', 'large');
CREATE TABLE shop.item (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text UNIQUE NOT NULL, size shop.size);
INSERT INTO shop.item (name, size) SELECT 'item ' || n, 'small' FROM generate_series(1, 20) AS n;
"""
QUERIES = """
SELECT name FROM shop.item WHERE id = $1;
SELECT count(*) FROM shop.item WHERE size = $1;
INSERT INTO shop.item (name, size) VALUES ($1, $2);
"""


@pytest.fixture(scope="module")
def foreign_url(postgres_server: Server) -> Iterator[str]:
    """A database of the tests' server, without groundwork's schema, for login migrator."""
    postgres_server.psql(f"CREATE DATABASE {DATABASE} OWNER {OWNER} TEMPLATE template0")
    postgres_server.psql(
        f"CREATE EXTENSION pg_stat_statements; GRANT CREATE ON SCHEMA public TO {OWNER}", DATABASE
    )
    yield postgres_server.database_url("migrator", DATABASE) + "&options=-csearch_path%3Dpublic"
    postgres_server.psql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def rehearse(
    shared_scratch: SharedScratch,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    write: Write,
    foreign_url: str,
) -> Callable[..., Outcome]:
    @contextmanager
    def shared(**options: object) -> Iterator[ScratchServer]:
        yield shared_scratch

    monkeypatch.setattr(rehearsal, "scratch_server", shared)
    monkeypatch.setattr(rehearsal, "_AFTER_SECONDS", 0.1)
    write("1_shop.sql", BASE)
    apply_pending(foreign_url, read_source(folder))
    write("2_price.sql", "ALTER TABLE shop.item ADD COLUMN price int NOT NULL DEFAULT 1;")
    return lambda *options: invoke(
        "rehearse",
        "--url",
        foreign_url,
        "--folder",
        folder,
        "--before",
        "0.5",
        "--callers",
        "2",
        "--json",
        *options,
    )


@promise("a rehearsal sends the application's own queries, and fails if too few of them work")
def test_queries_of_a_folder_are_sent_with_values_of_the_rows(
    rehearse: Callable[..., Outcome], tmp_path: Path
) -> None:
    queries = tmp_path / "queries"
    queries.mkdir()
    (queries / "shop.sql").write_text(QUERIES)
    outcome = rehearse("--queries", queries)
    assert outcome.code == Exit.FINE, outcome.error
    told = json.loads(outcome.out)
    assert [each["name"] for each in told["migrations"]] == ["2_price"]
    assert {each["query"]: each["errors"]["before"] for each in told["queries"]} == {
        "shop.1": {}, "shop.2": {}, "shop.3": {},
    }  # fmt: skip
    assert told["skipped"] == {}


@promise("a rehearsal sends the application's own queries, and fails if too few of them work")
def test_without_a_folder_the_servers_statements_are_sent(
    rehearse: Callable[..., Outcome], foreign_url: str
) -> None:
    with psycopg.connect(foreign_url, autocommit=True) as connection:
        for _ in range(200):
            connection.execute("SELECT name FROM shop.item WHERE name = %s", ["item 1"])
            connection.execute("SELECT id FROM shop.item ORDER BY name LIMIT %s", [3])
    outcome = rehearse()
    assert outcome.code == Exit.FINE, outcome.error
    sent = " ".join(each["query"] for each in json.loads(outcome.out)["queries"])
    assert "SELECT name FROM shop.item WHERE name = $1" in sent
    assert "SELECT id FROM shop.item ORDER BY name LIMIT $1" in sent


@promise("a rehearsal sends the application's own queries, and fails if too few of them work", control=True)
def test_too_few_queries_that_work_are_an_error(rehearse: Callable[..., Outcome], tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    queries.mkdir()
    (queries / "a.sql").write_text(
        "SELECT 1 FROM shop.item; SELECT 1 FROM users; SELECT a FROM item WHERE id = $1"
    )
    outcome = rehearse("--queries", queries)
    assert outcome.code == Exit.ERROR
    assert outcome.error.startswith("only 1 of 3 queries work on the copy, too few for a rehearsal;")
