"""`groundwork migrate verify`: the expected schema, and the reports of drift.

tests/integration/migrator/test_catalog.py tests the kinds of drift.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db.migrator import apply_pending, read_source
from ops.errors import Exit
from ops.servers.scratch_server import scratch_server
from tests.conftest import Database
from tests.integration.migrations.conftest import Run, invoke
from tests.integration.migrator.conftest import Write
from tests.promises import promise


def test_a_database_as_its_migrations_make_it_is_fine(run: Run, database: Database) -> None:
    outcome = run("verify", "--url", database.url("migrator"))
    assert (outcome.code, outcome.error) == (Exit.FINE, "")
    assert outcome.out == f"the database matches the {len(read_source())} applied migrations\n"


@promise("drift of a database is reported with both definitions")
def test_drift_is_4_and_named_with_both_definitions(run: Run, database: Database) -> None:
    database.psql(
        "ALTER TABLE groundwork.users ALTER email SET NOT NULL; DROP INDEX groundwork.users_username_idx"
    )
    url = database.url("migrator")
    outcome = run("verify", "--url", url)
    assert outcome.code == Exit.MISMATCH
    assert (
        "different   column users.email\n            expected: text\n            found:    text NOT NULL\n"
        in (outcome.out)
    )
    told = run("verify", "--url", url, "--json")
    assert told.code == Exit.MISMATCH
    assert [each["what"] for each in json.loads(told.out)["drift"]] == [
        "column users.email",
        "index users_username_idx",
    ]


def test_pending_migrations_are_not_drift(
    run: Run, write: Write, folder: Path, empty_database: Database
) -> None:
    write("1_a.sql", "CREATE TABLE a (id int)")
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    write("2_b.sql", "CREATE TABLE b (id int)")
    outcome = run("verify", "--url", url, "--folder", folder)
    assert outcome.code == Exit.FINE
    assert outcome.error == "1 pending migrations are not checked\n"


def test_a_late_migration_is_expected_in_the_order_it_was_applied(
    run: Run, write: Write, folder: Path, empty_database: Database
) -> None:
    """The order of the columns depends on it."""
    url = empty_database.url("migrator")
    write("1_a.sql", "CREATE TABLE a (id int)")
    write("3_c.sql", "ALTER TABLE a ADD c int")
    apply_pending(url, read_source(folder))
    write("2_b.sql", "ALTER TABLE a ADD b int")
    apply_pending(url, read_source(folder))
    assert run("verify", "--url", url, "--folder", folder).code == Exit.FINE


def test_an_edited_file_is_4_by_the_ledger(
    run: Run, write: Write, folder: Path, empty_database: Database
) -> None:
    write("1_a.sql", "SELECT 1")
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    write("1_a.sql", "SELECT 2")
    outcome = run("verify", "--url", url, "--folder", folder)
    assert outcome.code == Exit.MISMATCH
    assert "was edited after it was applied" in outcome.error


@pytest.mark.parametrize("command", ["verify", "plan", "rehearse"])
class TestWhatIsMissing:
    """Missing requirements: one line of error and the documented exit code, before anything is started."""

    def test_an_unreachable_database_is_6(self, run: Run, command: str) -> None:
        outcome = run(command, "--url", "postgresql://migrator:secret@localhost:1/groundwork")
        assert outcome.code == Exit.UNREACHABLE
        assert "\n" not in outcome.error
        assert "secret" not in outcome.error

    def test_a_wrong_password_is_6(self, run: Run, command: str, empty_database: Database) -> None:
        url = empty_database.url("migrator").replace("migrator:", "migrator:wrong")
        assert run(command, "--url", url).code == Exit.UNREACHABLE

    def test_no_engine_is_6(
        self,
        command: str,
        empty_database: Database,
        write: Write,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from tests.integration.migrations.conftest import invoke

        write("1_a.sql", "SELECT 1")
        url = empty_database.url("migrator")
        # `verify` needs a ledger, and `plan` a pending migration.
        assert invoke("up", "--url", url, "--folder", folder).code == Exit.FINE
        write("2_b.sql", "SELECT 1")
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        outcome = invoke(command, "--url", url, "--folder", folder)
        # The database itself is reached by its port, independently of DOCKER_HOST.
        assert outcome.code == Exit.UNREACHABLE
        assert outcome.error.startswith("no Docker engine answers for DOCKER_HOST")
        monkeypatch.undo()


def test_the_error_of_an_applied_file_does_not_advise_to_edit_it(
    run: Run, write: Write, folder: Path, empty_database: Database
) -> None:
    """The shared temporary server gives each database another name than the target's."""
    write("1_a.sql", f"-- no-transaction\nREINDEX DATABASE {empty_database.name}")
    empty_database.psql(f"ALTER DATABASE {empty_database.name} OWNER TO owner")
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    outcome = run("verify", "--url", url, "--folder", folder)
    assert outcome.code == Exit.ERROR
    assert "can only reindex the currently open database" in outcome.error
    assert outcome.error.endswith(
        "; this happened on a temporary server, and the database is unchanged. Do not edit a file that is applied:"
        " docs/migration-review.md#files-that-cannot-be-replayed says what to do"
    )


def test_a_pending_file_that_fails_is_to_be_corrected(
    run: Run, write: Write, folder: Path, empty_database: Database
) -> None:
    write("1_a.sql", "SELECT wrong")
    outcome = run("plan", "--url", empty_database.url("migrator"), "--folder", folder)
    assert outcome.code == Exit.ERROR
    assert outcome.error.endswith(
        "; this happened on a temporary server, and the database is unchanged: correct the file and run again"
    )


@pytest.mark.parametrize("name", ["Shop-1", "postgres"])
def test_a_file_with_the_name_of_its_database_is_replayed(
    docker_engine: None, write: Write, folder: Path, name: str
) -> None:
    write("1_a.sql", f'-- no-transaction\nREINDEX DATABASE "{name}"')
    with scratch_server(has_roles=False) as target:
        url = target.make_plain_database(name)
        apply_pending(url, read_source(folder))
        write("2_b.sql", "CREATE TABLE a (id int)")
        verified = invoke("verify", "--url", url, "--folder", folder)
        assert (verified.code, verified.out) == (
            Exit.FINE,
            "the database matches the 1 applied migrations\n",
        )
        planned = invoke("plan", "--url", url, "--folder", folder)
        assert (planned.code, planned.error) == (Exit.FINE, "")
