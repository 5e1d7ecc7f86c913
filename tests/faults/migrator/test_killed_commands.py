"""SIGKILL at every step of the commands that change the ledger or the folder: the next run completes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import read_source
from tests.conftest import Connection
from tests.faults.migrator.conftest import KILLED, Picture, Run, picture
from tests.integration.migrator.conftest import Write
from tests.promises import promise
from tests.scale import scaled

STRIDE = scaled(3, 1)


def kill_at_every_step(
    run: Run, owner: Connection, *arguments: str, reset: str, before: Picture, after: Picture
) -> int:
    """Kill the command at each of its steps and run it again, starting from the state that `reset` creates."""
    owner.execute(reset.encode())
    assert picture(owner) == before
    (whole,) = run(*arguments)
    assert (whole.code, picture(owner)) == (0, after)
    for step in range(1, whole.steps + 1, STRIDE):
        owner.execute(reset.encode())
        (killed,) = run(*arguments, kill_at=step)
        assert killed.code == KILLED
        assert picture(owner) in (before, after), f"half done at step {step}"
        if picture(owner) == before:
            assert run(*arguments)[0].code == 0
        assert picture(owner) == after
    return whole.steps


@pytest.fixture
def applied(run: Run, write: Write) -> None:
    for version in (1, 2, 3):
        write(f"{version}_t{version}.sql", f"CREATE TABLE t{version} ();\n")
    assert run("up")[0].code == 0


@promise("a killed `repair`, `baseline` or `new` has done all or nothing")
@pytest.mark.usefixtures("applied")
def test_a_killed_repair_accepts_all_checksums_or_none(run: Run, owner: Connection, folder: Path) -> None:
    owner.execute("CREATE TABLE saved AS SELECT * FROM _sqlx_migrations")
    before = picture(owner)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert run("repair")[0].code == 0
    kill_at_every_step(
        run,
        owner,
        "repair",
        reset="UPDATE _sqlx_migrations SET checksum = saved.checksum FROM saved"
        " WHERE saved.version = _sqlx_migrations.version",
        before=before,
        after=picture(owner),
    )


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("option", ["--mark-applied", "--forget"])
def test_a_killed_repair_of_a_dirty_migration_is_all_or_nothing(
    run: Run, owner: Connection, option: str
) -> None:
    reset = (
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)"
        " SELECT 3, description, FALSE, checksum, -1 FROM saved"
        " ON CONFLICT (version) DO UPDATE SET success = FALSE"
    )
    owner.execute("CREATE TABLE saved AS SELECT * FROM _sqlx_migrations WHERE version = 3")
    owner.execute(reset.encode())
    before = picture(owner)
    assert run("repair", option, "3", "--yes")[0].code == 0
    after = picture(owner)
    assert after != before
    kill_at_every_step(run, owner, "repair", option, "3", "--yes", reset=reset, before=before, after=after)


@promise("a killed `repair`, `baseline` or `new` has done all or nothing")
@pytest.mark.usefixtures("applied")
def test_a_baseline_that_is_killed_records_everything_or_nothing(run: Run, owner: Connection) -> None:
    after = picture(owner)
    reset = "DROP TABLE IF EXISTS _sqlx_migrations"
    owner.execute(reset.encode())
    before = picture(owner)
    kill_at_every_step(run, owner, "baseline", "3", "--unchecked", reset=reset, before=before, after=after)


@promise("a killed `repair`, `baseline` or `new` has done all or nothing")
def test_a_new_migration_that_is_killed_is_completed_by_the_same_command(run: Run, folder: Path) -> None:
    (whole,) = run("new", "first", needs_database=False)
    expected = {path.name[5:]: path.read_text() for path in folder.iterdir()}
    for step in range(1, whole.steps + 1):
        name = f"kill_{step}"
        (killed,) = run("new", name, kill_at=step, needs_database=False)
        assert killed.code == KILLED
        read_source(folder)
        is_whole = len(list(folder.glob(f"*_{name}.*.sql"))) == 2
        if not is_whole:
            assert run("new", name, needs_database=False)[0].code == 0
        made = {
            path.name[5:].replace(name, "first"): path.read_text() for path in folder.glob(f"*_{name}.*.sql")
        }
        assert made == expected
    versions = [m.version for m in read_source(folder)]
    assert versions == list(range(1, whole.steps + 2))
