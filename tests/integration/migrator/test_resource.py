"""Migrations as a Pulumi resource: what `preview` lists, what `up` repairs, and which role reads the ledger."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pulumi.runtime.rpc import UNKNOWN

from db.migrator import LedgerMismatch, MigrationError, ScriptFailed, apply_pending, read_source
from infra.schema import MigrationsProvider
from ops.doctor.examination import Examination
from ops.doctor.migrations import ledger_state
from ops.errors import OpsError
from tests.conftest import Connection, Database
from tests.containers import Server
from tests.integration.migrator.conftest import Write, applied_versions
from tests.monitored import monitored
from tests.promises import promise

INDEX = "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY t_a_idx ON t (a);\n"


@pytest.fixture
def props(empty_database: Database, folder: Path, write: Write) -> dict[str, Any]:
    """The resource's inputs for a folder whose only migration is applied."""
    write("1_table.sql", "CREATE TABLE t (a int);\n")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    return {"folder": str(folder), "conninfo": empty_database.url("migrator"), "container_id": "c" * 12}


@pytest.fixture
def trap(owner: Connection, props: dict[str, Any]) -> None:
    """Let a policy of the ledger call a function that records the current user. A view would be refused."""
    owner.execute(
        """
        CREATE FUNCTION spring() RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'run by %, superuser %', session_user, current_setting('is_superuser'); END $$;
        CREATE POLICY trap ON _sqlx_migrations USING (spring());
        ALTER TABLE _sqlx_migrations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        """
    )


def kill_index_build(owner: Connection, folder: Path) -> None:
    """Create what a killed CREATE INDEX CONCURRENTLY leaves: an INVALID index, and an unfinished ledger row."""
    owner.execute("INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a_idx ON t (a)")
    owner.execute("TRUNCATE t")
    migration = read_source(folder)[-1]
    owner.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)"
        " VALUES (%s, %s, false, %s, -1)",
        [migration.version, migration.description, migration.checksum],
    )


@promise("`up` repairs and refuses the same migrations as `migrate up`")
def test_up_repairs_a_killed_index_build(
    props: dict[str, Any], write: Write, folder: Path, owner: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even if the state says that the last `up` applied everything."""
    write("2_index.sql", INDEX)
    kill_index_build(owner, folder)
    provider = MigrationsProvider()
    assert provider.diff("id", props, props).changes is True
    assert capsys.readouterr().out == "pending migration: 2_index.sql\n"
    provider.update("id", props, props)
    valid = owner.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_a_idx'::regclass").fetchall()
    assert valid == [(True,)]
    assert applied_versions(owner) == [1, 2]
    assert provider.diff("id", props, props).changes is False
    assert "pending" not in capsys.readouterr().out


@promise("`up` repairs and refuses the same migrations as `migrate up`")
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("-- no-transaction\nALTER TYPE mood ADD VALUE 'sad';\n", "migrate repair --mark-applied 2"),
        ("CREATE TABLE u (a int);\n", "migrate repair --forget 2"),
    ],
    ids=["no-transaction", "transaction"],
)
def test_a_migration_that_needs_a_person_is_refused_as_by_migrate_up(
    props: dict[str, Any], write: Write, folder: Path, owner: Connection, sql: str, said: str
) -> None:
    write("2_b.sql", sql)
    kill_index_build(owner, folder)
    with pytest.raises(LedgerMismatch, match=said):
        MigrationsProvider().diff("id", props, props)


def test_a_failed_migration_is_reported_with_file_line_and_statement_and_changes_nothing(
    props: dict[str, Any], write: Write, owner: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    write("2_bad.sql", "CREATE TABLE half (a int);\n\nCREATE TABEL other (a int);\n")
    provider = MigrationsProvider()
    assert provider.diff("id", props, props).changes is True
    assert capsys.readouterr().out == "pending migration: 2_bad.sql\n"
    with pytest.raises(ScriptFailed, match=r"2_bad\.sql:3.*(?s:.*)CREATE TABEL other"):
        provider.update("id", props, props)
    assert owner.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert applied_versions(owner) == [1]


def test_a_migration_that_was_reverted_by_hand_is_applied_again(
    props: dict[str, Any], owner: Connection
) -> None:
    owner.execute("DROP TABLE t; DELETE FROM _sqlx_migrations")
    provider = MigrationsProvider()
    assert provider.diff("id", props, props).changes is True
    provider.update("id", props, props)
    assert applied_versions(owner) == [1]


@pytest.mark.parametrize("new", ["unknown", "not yet the server's"])
def test_with_a_new_password_the_old_one_names_what_is_pending(
    props: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str], new: str
) -> None:
    write("2_index.sql", INDEX)
    password = props["conninfo"].partition("@")[0].rpartition(":")[2]
    conninfo = UNKNOWN if new == "unknown" else props["conninfo"].replace(password, "another")
    assert MigrationsProvider().diff("id", props, props | {"conninfo": conninfo}).changes is True
    assert capsys.readouterr().out == "pending migration: 2_index.sql\n"


def test_an_unreachable_server_causes_no_change(
    props: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("2_index.sql", INDEX)
    closed = props | {"conninfo": "postgresql://migrator:x@127.0.0.1:9/groundwork"}
    assert MigrationsProvider().diff("id", closed, closed).changes is False
    assert capsys.readouterr().out == ""


@promise("the ledger is never read with more privileges than its owner has")
@pytest.mark.usefixtures("trap")
def test_preview_reads_the_ledger_with_no_more_rights_than_its_owner(props: dict[str, Any]) -> None:
    with pytest.raises(MigrationError, match="run by migrator, superuser off"):
        MigrationsProvider().diff("id", props, props)


@promise("the ledger is never read with more privileges than its owner has")
@pytest.mark.usefixtures("trap")
def test_doctor_reads_the_ledger_with_no_more_rights_than_its_owner(
    empty_database: Database, redis_server: Server
) -> None:
    with closing(Examination(monitored(empty_database, redis_server))) as examination:
        with pytest.raises(OpsError, match="run by migrator, superuser off"):
            ledger_state(examination)
