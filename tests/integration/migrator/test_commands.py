"""The commands `groundwork migrate` and `groundwork seed`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from db.migrator import read_source
from db.migrator.lock import lock_key
from db.seed import ACTIVITIES, ORGANIZATIONS, REPOSITORIES, USERS
from ops.commands.migrate import migrate
from ops.commands.seed import seed
from ops.errors import Exit
from tests.conftest import Connect, Connection, Database
from tests.integration.migrator.conftest import Run, Write, tables
from tests.promises import promise


@promise("the migrator's exit codes are as documented")
def test_status_exits_with_3_while_something_is_pending(run: Run, write: Write) -> None:
    write("1_a.sql", "SELECT 1")
    assert run("status").code == Exit.PENDING
    assert run("up").code == Exit.FINE
    assert run("status").code == Exit.FINE


def test_status_exits_with_4_on_a_mismatch_and_names_it(run: Run, write: Write) -> None:
    write("1_a.sql", "SELECT 1")
    run("up")
    write("1_a.sql", "SELECT 2")
    outcome = run("status")
    assert outcome.code == Exit.MISMATCH
    assert "1_a.sql was edited after it was applied" in outcome.out


def test_status_in_json_lists_applied_and_pending(run: Run, write: Write) -> None:
    write("1_a.sql", "SELECT 1")
    write("3_c.sql", "SELECT 1")
    run("up")
    write("2_b.sql", "SELECT 1")
    state = json.loads(run("status", "--json").out)
    assert state["version"] == 3
    assert [(m["version"], m["description"]) for m in state["applied"]] == [(1, "a"), (3, "c")]
    assert state["pending"] == [{"version": 2, "name": "2_b", "phase": "expand", "out_of_order": True}]
    assert (state["interrupted"], state["problems"]) == ([], [])


def test_up_names_what_it_applied(run: Run, write: Write) -> None:
    write("1_a.sql", "SELECT 1")
    write("2_b.sql", "SELECT 1")
    assert "applied 1_a (" in run("up", "--to", "1").out
    assert "applied 2_b (" in run("up").out
    assert run("up").out == "nothing was pending\n"


def test_a_file_whose_name_is_not_utf8_is_applied_as_by_sqlx(
    run: Run, write: Write, owner: Connection
) -> None:
    write(os.fsdecode(b"1_\xff.sql"), "SELECT 1")
    outcome = run("up")
    assert (outcome.code, "applied 1_" in outcome.out) == (Exit.FINE, True)
    assert owner.execute("SELECT description FROM _sqlx_migrations").fetchall() == [("\ufffd",)]
    assert run("status").code == Exit.FINE


def test_version_0_is_named_and_reverted_like_any_other(run: Run, write: Write) -> None:
    for version in (-1, 0, 1):
        write(f"{version}_a.up.sql", "SELECT 1")
        write(f"{version}_a.down.sql", "SELECT 1")
    run("up")
    assert run("down", "--to", "-1", "--yes").out.count("reverted") == 2
    run("up")
    path = write("0_a.up.sql", "SELECT 2")
    (problem,) = [line for line in run("status").out.splitlines() if "was edited" in line]
    assert problem.split()[:2] == ["problem", "0"]
    path.write_text("SELECT 1")
    outcome = run("down", "--to", "0")
    assert (outcome.code, outcome.error) == (
        Exit.REFUSED,
        "reverting 3 migrations (1_a, 0_a, -1_a) drops tables with their rows; pass --yes to skip the question",
    )
    assert run("down", "--to", "0", "--yes").out.count("reverted") == 3


def test_a_dry_run_names_what_is_pending_and_applies_nothing(
    run: Run, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    assert run("up", "--dry-run").out == "would apply 1_a\n"
    assert tables(owner) == set()


@promise("the migrator's exit codes are as documented")
def test_a_failed_migration_exits_with_1_and_one_line(run: Run, write: Write) -> None:
    write("1_a.sql", "CREATE TABEL a ()")
    outcome = run("up")
    assert outcome.code == Exit.ERROR
    assert outcome.error.startswith("1_a.sql:1: syntax error")
    assert "\n" not in outcome.error


def test_what_was_applied_before_a_failure_is_printed(run: Run, write: Write) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    write("2_b.sql", "CREATE TABEL b ()")
    assert run("up").out.startswith("applied 1_a (")
    write("2_b.sql", "CREATE TABLE b ()")
    write("3_c.sql", "CREATE TABEL c ()")
    printed = json.loads(run("up", "--json").out)
    assert [each["version"] for each in printed["applied"]] == [2]
    assert printed["error"].startswith("3_c.sql:1: syntax error")


@promise("the migrator's exit codes are as documented")
def test_an_edited_migration_exits_with_4(run: Run, write: Write) -> None:
    write("1_a.sql", "SELECT 1")
    run("up")
    write("1_a.sql", "SELECT 2")
    assert run("up").code == Exit.MISMATCH
    assert run("up", "--dry-run").code == Exit.MISMATCH


@promise("the migrator's exit codes are as documented")
def test_a_held_lock_exits_with_5(
    run: Run, write: Write, empty_database: Database, owner: Connection
) -> None:
    write("1_a.sql", "SELECT 1")
    owner.execute("SELECT pg_advisory_lock(%s)", [lock_key(empty_database.name)])
    assert run("up", "--wait", "0.2").code == Exit.LOCKED


@promise("the migrator's exit codes are as documented")
def test_an_unreachable_database_exits_with_6(run: Run) -> None:
    assert run("status", "--url", "postgresql://migrator@localhost:1/groundwork").code == Exit.UNREACHABLE


@promise("the migrator's exit codes are as documented")
def test_down_unasked_is_refused_with_7_and_changes_nothing(
    run: Run, write: Write, owner: Connection
) -> None:
    write("1_a.up.sql", "CREATE TABLE a ()")
    write("1_a.down.sql", "DROP TABLE a")
    run("up")
    outcome = run("down")
    assert outcome.code == Exit.REFUSED
    assert "--yes" in outcome.error
    assert tables(owner) == {"a"}
    assert "reverted 1_a (" in run("down", "--yes").out
    assert tables(owner) == set()


@pytest.mark.parametrize("meanwhile", ["down", "up"])
def test_down_reverts_only_the_migrations_that_its_question_names(
    run: Run, write: Write, owner: Connection, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    for version in (1, 2, 3):
        write(f"{version}_a.up.sql", f"CREATE TABLE t{version} ()")
        write(f"{version}_a.down.sql", f"DROP TABLE t{version}")
    run("up", "--to", "2")
    questions: list[str] = []

    def answer(question: str, **_: object) -> None:
        questions.append(question)
        if meanwhile == "up":
            assert run("up").code == Exit.FINE
        else:
            assert run("down", "--yes").out.startswith("reverted 2_a")

    monkeypatch.setattr("ops.commands.migrate.confirm", answer)
    outcome = run("down")
    assert questions == ["Revert 2_a? The objects that were created are dropped with their rows."]
    if meanwhile == "up":
        assert outcome.code == Exit.REFUSED
        assert "another migrator has applied version 3 since" in outcome.error
        assert tables(owner) == {"t1", "t2", "t3"}
    else:
        assert (outcome.code, outcome.out) == (Exit.FINE, "nothing was applied\n")
        assert "2_a: another migrator has reverted it" in outcome.error
        assert tables(owner) == {"t1"}


def test_the_question_of_down_names_at_most_ten_migrations(run: Run, write: Write) -> None:
    for version in range(1, 13):
        write(f"{version}_a.up.sql", "SELECT 1")
        write(f"{version}_a.down.sql", "SELECT 1")
    run("up")
    error = run("down", "--to", "0").error
    assert error.startswith(
        "reverting 12 migrations (12_a, 11_a, 10_a, 9_a, 8_a, 7_a, 6_a, 5_a, 4_a, ..., 1_a)"
    )


def test_down_asks_nothing_if_nothing_is_applied_or_a_down_file_is_missing(run: Run, write: Write) -> None:
    write("1_a.sql", "SELECT 1")
    assert run("down").code == Exit.FINE
    run("up")
    outcome = run("down")
    assert outcome.code == Exit.ERROR
    assert outcome.error.startswith("1_a.sql has no down file")


def test_new_creates_files_that_up_then_applies(run: Run) -> None:
    assert run("new", "users email").code == Exit.FINE
    assert "applied 0001_users_email" in run("up").out


def test_a_url_may_come_from_a_file(
    run: Run, empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "url"
    path.write_text(empty_database.url("migrator") + "\n")
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    assert run("status").code == Exit.FINE
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "absent"))
    assert "cannot read" in run("status").error


def test_the_projects_own_migrations_are_the_default(run: Run) -> None:
    outcome = run("up", folder=None)
    assert outcome.out.count("applied ") == len(read_source())


@pytest.fixture
def seed_once(database: Database) -> Callable[[], str]:
    def load() -> str:
        result = CliRunner().invoke(seed, ["--url", database.url("app")], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    return load


@promise("`seed` is idempotent and restores changed sample rows")
def test_seed_loads_and_a_second_run_changes_nothing(seed_once: Callable[[], str], connect: Connect) -> None:
    assert f"{USERS} users, {ORGANIZATIONS} organizations" in seed_once()
    counts = (
        "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM organizations),"
        " (SELECT count(*) FROM repositories), (SELECT count(*) FROM activities),"
        " (SELECT max(row_version) FROM users), (SELECT sum(hashtext(activities::text)) FROM activities)"
    )
    app = connect("app")
    before = app.execute(counts).fetchone()
    assert before is not None
    assert before[:4] == (USERS, ORGANIZATIONS, REPOSITORIES, ACTIVITIES)
    assert "0 users, 0 organizations, 0 repositories and 0 activities" in seed_once()
    assert app.execute(counts).fetchone() == before


@promise("`seed` is idempotent and restores changed sample rows")
def test_seed_restores_changed_rows_and_keeps_other_rows(
    seed_once: Callable[[], str], connect: Connect
) -> None:
    seed_once()
    app = connect("app")
    app.execute("INSERT INTO users (github_id, username) VALUES (1, 'real')")
    app.execute("UPDATE organizations SET name = 'changed' WHERE id = (SELECT min(id) FROM organizations)")
    app.execute("DELETE FROM activities WHERE id IN (SELECT id FROM activities LIMIT 10)")
    assert "0 users, 1 organizations, 0 repositories and 10 activities" in seed_once()
    assert app.execute("SELECT username FROM users WHERE github_id = 1").fetchone() == ("real",)


def test_the_sample_data_says_that_it_is_made_up(seed_once: Callable[[], str], connect: Connect) -> None:
    seed_once()
    row = (
        connect("app")
        .execute(
            "SELECT (SELECT bool_and(preferences @> '{\"made_up\": true}' AND username LIKE 'sample-%'"
            "   AND access_token IS NULL AND (email IS NULL OR email LIKE '%@example.org')) FROM users),"
            " (SELECT bool_and(description LIKE 'Made up:%') FROM organizations),"
            " (SELECT bool_and(description LIKE 'Made up:%') FROM repositories),"
            " (SELECT bool_and(data @> '{\"made_up\": true}') FROM activities)"
        )
        .fetchone()
    )
    assert row == (True, True, True, True)


@promise("the sample data is the same everywhere")
def test_the_sample_data_is_the_same_everywhere(
    seed_once: Callable[[], str], connect: Connect, empty_database: Database
) -> None:
    seed_once()
    there = connect("app")
    CliRunner().invoke(migrate, ["up", "--url", empty_database.url("migrator")], catch_exceptions=False)
    CliRunner().invoke(seed, ["--url", empty_database.url("app")], catch_exceptions=False)
    query = (
        "SELECT github_event_id, users.username, repositories.name, type FROM activities"
        " JOIN users ON users.id = user_id LEFT JOIN repositories ON repositories.id = repo_id ORDER BY 1"
    )
    with psycopg.connect(empty_database.url("app")) as here:
        assert here.execute(query).fetchall() == there.execute(query).fetchall()
