"""`groundwork migrate reset`: a stack's database and cache start again, completely or after a second run."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from db import seed
from db.models import NewUser
from infra import outputs
from infra.settings import StackSettings
from ops.commands.migrate import migrate
from ops.errors import Exit, OpsError
from ops.stack import reset
from ops.stack.pulumi_stack import PulumiStack
from tests.conftest import Database
from tests.containers import Server
from tests.integration.cache_operations.conftest import OpenReader, Outcome
from tests.promises import promise

OBJECTS = """
CREATE TABLE groundwork.extra (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE groundwork.extra_1 PARTITION OF groundwork.extra FOR VALUES FROM (1) TO (9);
CREATE VIEW groundwork.seen AS SELECT id FROM groundwork.users;
CREATE MATERIALIZED VIEW groundwork.kept AS SELECT 1;
CREATE TYPE groundwork.mood AS ENUM ('a'); CREATE DOMAIN groundwork.score AS int;
CREATE TYPE groundwork.pair AS (a int, b groundwork.mood);
CREATE FUNCTION groundwork.f(groundwork.mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE groundwork.p() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE groundwork.total(int) (SFUNC = int4pl, STYPE = int);
CREATE AGGREGATE groundwork.rows(*) (SFUNC = int8inc, STYPE = int8, INITCOND = 0);
CREATE AGGREGATE groundwork.middle(float8 ORDER BY anyelement)
  (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE TEXT SEARCH CONFIGURATION groundwork.words (COPY = pg_catalog.simple);
CREATE OPERATOR groundwork.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE COLLATION groundwork.c FROM "C"; CREATE STATISTICS groundwork.s ON id, username FROM groundwork.users;
CREATE SEQUENCE groundwork."A sequence";
UPDATE groundwork._sqlx_migrations SET success = false WHERE version = 3;
"""
INSIDE = """
SELECT identity FROM pg_depend, pg_identify_object(classid, objid, objsubid)
WHERE refobjid = 'groundwork'::regnamespace AND deptype = 'n'
  AND identity NOT LIKE 'groundwork.activities_20%' ORDER BY 1
"""


@pytest.fixture
def stack(
    database: Database, redis_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The test's database and Redis as those of stack dev. A test may change REDIS_URL's server."""
    urls = {"REDIS_URL": redis_server.redis_url("ops")}

    def outputs_of(self: PulumiStack) -> dict[str, Any]:
        databases = {role: database.url(role) for role in ("migrator", "app")}
        return {outputs.DATABASE_URLS: databases, outputs.REDIS_URLS: {"ops": urls["REDIS_URL"]}}

    monkeypatch.setattr(PulumiStack, "outputs", outputs_of)
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", namespace)
    for name in ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    return urls


def run(*arguments: str) -> Outcome:
    result = CliRunner().invoke(migrate, ["reset", *arguments])
    if isinstance(result.exception, OpsError):
        return Outcome(result.exception.exit_code, result.stdout, str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def users(database: Database) -> int:
    return int(database.psql("SELECT count(*) FROM groundwork.users"))


@promise("`migrate reset` rebuilds a development stack, with a cache that serves no old record")
@pytest.mark.usefixtures("stack")
def test_reset_leaves_the_migrations_and_the_sample_data_and_no_old_cache(
    database: Database, reader: OpenReader
) -> None:
    data = reader(100)
    old = data.users.add(NewUser(github_id=1, username="old"))
    assert data.users.get(old.id).username == "old"
    created = database.psql(INSIDE)
    database.psql(OBJECTS)
    done = run("--yes")
    assert (done.code, "12 migrations applied" in done.out) == (Exit.FINE, True), done.error
    assert "database: localhost:" in done.error
    assert "as migrator, from stack 'dev'" in done.error
    assert users(database) == seed.USERS
    # The record of that id is another one now, and Redis and the near cache had the old one.
    assert data.users.get(old.id).username != "old"
    # Nothing else is left than what the migrations create, apart from the sample data's monthly partitions.
    assert database.psql(INSIDE) == created


@promise("`migrate reset` rebuilds a development stack, with a cache that serves no old record", control=True)
@pytest.mark.usefixtures("stack")
def test_without_the_flush_the_cache_serves_the_old_record(
    database: Database, reader: OpenReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = reader(0)
    old = data.users.add(NewUser(github_id=1, username="old"))
    assert data.users.get(old.id).username == "old"
    monkeypatch.setattr("cache.flushing.invalidate_namespace", lambda *_: None)
    assert run("--yes").code == Exit.FINE
    assert data.users.get(old.id).username == "old"


@promise("an interrupted `migrate reset` is completed by the next run")
@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("step", ["db.migrator.apply_pending", "cache.flushing.invalidate_namespace"])
def test_a_second_run_completes_an_interrupted_one(
    database: Database, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, interrupt)
        CliRunner().invoke(migrate, ["reset", "--yes"])
    assert run("--yes").code == Exit.FINE
    assert users(database) == seed.USERS


@promise("`migrate reset` is refused for all but a development stack's own database")
@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--stack", "prod", "--yes"], {}, "stack 'prod' is on AWS"),
        (["--stack", "staging", "--yes"], {}, "stack 'staging' is on AWS"),
        (["--yes", "--url", "postgresql://me@db.example/groundwork"], {}, "--url leads to another database"),
        (["--yes"], {"DATABASE_URL": "postgresql://me@localhost:1/groundwork"}, "DATABASE_URL leads to another"),
        ([], {}, "reset deletes all rows of stack 'dev'; pass --yes"),
    ],
)  # fmt: skip
def test_reset_is_refused_elsewhere_with_7(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    said: str,
) -> None:
    database.psql("INSERT INTO groundwork.users (github_id, username) VALUES (1, 'kept')")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    refused = run(*arguments)
    assert (refused.code, said in refused.error) == (Exit.REFUSED, True), refused.error
    assert users(database) == 1


@promise("`migrate reset` is refused for all but a development stack's own database")
@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("dev", {"groundwork:protectData": "true"}, "has protected data"),
        ("eu-prod", {}, "a name like staging or production"),
        ("staging-2", {}, "a name like staging or production"),
    ],
)
def test_a_protected_stack_in_docker_is_refused_too(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str, changed: dict[str, Any], said: str
) -> None:
    settings = StackSettings.parse({"groundwork:target": "docker"} | changed)
    monkeypatch.setattr(PulumiStack, "check_settings", lambda self: settings)
    refused = run("--yes", "--stack", name)
    assert (refused.code, said in refused.error) == (Exit.REFUSED, True), refused.error


@pytest.mark.usefixtures("stack")
def test_the_url_of_the_stack_itself_is_accepted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reset, "reset", lambda *_: reset.Reset(0, 0, 0))
    assert run("--yes", "--url", database.url("app").replace("localhost", "127.0.0.1")).code == Exit.FINE


def test_nothing_is_dropped_while_redis_cannot_be_reached(database: Database, stack: dict[str, str]) -> None:
    stack["REDIS_URL"] = "rediss://ops:x@localhost:1/0"
    database.psql("INSERT INTO groundwork.users (github_id, username) VALUES (1, 'kept')")
    assert run("--yes").code == Exit.UNREACHABLE
    assert users(database) == 1


@pytest.mark.usefixtures("stack")
def test_a_locked_table_is_exit_code_5_and_nothing_is_dropped(database: Database) -> None:
    database.psql("INSERT INTO groundwork.users (github_id, username) VALUES (1, 'kept')")
    with psycopg.connect(database.url("app")) as other:
        other.execute("SELECT FROM groundwork.users")
        refused = run("--yes", "--attempts", "2", "--lock-timeout", "0.01")
    assert (refused.code, "nothing was dropped" in refused.error) == (Exit.LOCKED, True)
    assert users(database) == 1
