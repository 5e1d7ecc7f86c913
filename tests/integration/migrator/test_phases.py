"""`groundwork migrate up --phase`: migrations before and after a deploy."""

from __future__ import annotations

import json

import pytest

from ops.errors import Exit
from tests.conftest import Connection
from tests.integration.migrator.conftest import Run, Write, applied_versions
from tests.promises import promise

CONTRACT = "-- phase: contract\n"


@pytest.fixture
def release(write: Write) -> None:
    """Migrations that replace a column: add the new one, and drop the old one when no code reads it."""
    write("1_users.sql", "CREATE TABLE users (name text)")
    write("2_add.sql", "ALTER TABLE users ADD COLUMN username text")
    write("3_drop.sql", f"{CONTRACT}ALTER TABLE users DROP COLUMN name")


def columns(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('users') AND attnum > 0 AND NOT attisdropped"
    ).fetchall()
    return {str(row[0]) for row in rows}


@promise("old and new code both work between the phases")
@pytest.mark.usefixtures("release")
def test_between_the_phases_old_and_new_code_both_find_their_columns(run: Run, owner: Connection) -> None:
    assert run("up", "--phase", "expand").code == Exit.FINE
    assert columns(owner) == {"name", "username"}
    assert run("up", "--phase", "expand").out == "nothing was pending\n"
    assert run("up", "--phase", "contract").code == Exit.FINE
    assert columns(owner) == {"username"}


@pytest.mark.usefixtures("release")
def test_without_a_phase_everything_is_applied_by_version(run: Run, owner: Connection) -> None:
    assert run("up").code == Exit.FINE
    assert applied_versions(owner) == [1, 2, 3]


@promise("a phase never skips a pending migration of the other")
@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_contraction_before_its_expansion_is_refused_with_7_and_changes_nothing(
    run: Run, owner: Connection, more: list[str]
) -> None:
    outcome = run("up", "--phase", "contract", *more)
    assert outcome.code == Exit.REFUSED
    assert "cannot apply 3_drop (contract) yet: 1_users (expand) is pending" in outcome.error
    assert columns(owner) == set()


@pytest.mark.usefixtures("release")
def test_an_expansion_behind_a_pending_contraction_is_refused_until_that_is_applied(
    run: Run, write: Write, owner: Connection
) -> None:
    run("up", "--phase", "expand")
    write("4_next.sql", "ALTER TABLE users ADD COLUMN email text")
    outcome = run("up", "--phase", "expand")
    assert outcome.code == Exit.REFUSED
    assert "run `groundwork migrate up --phase contract --to 3` first" in outcome.error
    assert applied_versions(owner) == [1, 2]
    run("up", "--phase", "contract", "--to", "3")
    assert run("up", "--phase", "expand").code == Exit.FINE
    assert applied_versions(owner) == [1, 2, 3, 4]


@pytest.mark.usefixtures("release")
def test_status_says_the_phase(run: Run) -> None:
    run("up", "--to", "1")
    assert "2  add  [expand]\n" in run("status").out
    assert "3  drop  [contract]\n" in run("status").out
    state = json.loads(run("status", "--json").out)
    assert [m["phase"] for m in state["applied"] + state["pending"]] == ["expand", "expand", "contract"]


@pytest.mark.usefixtures("release")
def test_a_dry_run_names_the_phase_alone(run: Run) -> None:
    assert run("up", "--phase", "expand", "--dry-run").out == "would apply 1_users\nwould apply 2_add\n"
