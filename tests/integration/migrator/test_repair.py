"""`groundwork migrate repair`: which changes it accepts and refuses, and that a refusal changes nothing."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from ops.errors import Exit
from tests.conftest import Connection
from tests.integration.migrator.conftest import Run, Write, applied_versions
from tests.promises import promise

TEXT = "-- why\nCREATE TABLE a (id int DEFAULT 1);\n"
HARMLESS = {
    "line ends": TEXT.replace("\n", "\r\n"),
    "a byte order mark": f"\ufeff{TEXT}",
    "comments": TEXT.replace("why", "because"),
    "blanks": TEXT.replace("(id int", "( id  int"),
}


@pytest.fixture
def git(folder: Path) -> Path:
    """The folder of migrations as a git checkout."""
    _git(folder, "init", "--quiet")
    return folder


def commit(folder: Path) -> None:
    _git(folder, "add", ".")
    _git(folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "x")


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def checksums(connection: Connection) -> dict[int, bytes]:
    rows = connection.execute("SELECT version, checksum FROM _sqlx_migrations").fetchall()
    return {int(str(version)): bytes(checksum) for version, checksum in rows}  # type: ignore[call-overload]


@promise("`repair` accepts a changed checksum only if the change is proven harmless")
@pytest.mark.parametrize("what", HARMLESS)
def test_a_harmless_change_is_accepted_with_the_file_history(
    run: Run, write: Write, git: Path, owner: Connection, what: str
) -> None:
    path = write("1_a.sql", TEXT)
    commit(git)
    run("up")
    path.write_bytes(HARMLESS[what].encode())
    assert run("status").code == Exit.MISMATCH
    outcome = run("repair")
    assert outcome.code == Exit.FINE
    assert outcome.out == f"repaired 1_a: checksum, only {what} differ\n"
    assert checksums(owner) == {1: hashlib.sha384(path.read_bytes()).digest()}
    assert run("status").code == Exit.FINE
    assert run("repair").out == "nothing to repair\n"


@pytest.mark.parametrize("what", ["line ends", "a byte order mark"])
def test_line_ends_and_a_byte_order_mark_need_no_history(run: Run, write: Write, what: str) -> None:
    path = write("1_a.sql", TEXT)
    run("up")
    path.write_bytes(HARMLESS[what].encode())
    assert run("repair").code == Exit.FINE
    assert run("up").out == "nothing was pending\n"


def test_a_repaired_file_still_runs_on_an_empty_database(run: Run, write: Write, owner: Connection) -> None:
    path = write("1_a.sql", TEXT)
    run("up")
    path.write_bytes(HARMLESS["a byte order mark"].replace("\n", "\r\n").encode())
    run("repair")
    owner.execute("DROP TABLE a, _sqlx_migrations")
    assert run("up").code == Exit.FINE


def test_the_text_before_may_come_from_a_renamed_file_and_an_older_commit(
    run: Run, write: Write, git: Path
) -> None:
    path = write("1_a.sql", TEXT)
    commit(git)
    run("up")
    path.write_text(TEXT.replace("why", "because"))
    commit(git)
    path.rename(git / "1_renamed.sql")
    commit(git)
    assert run("repair").code == Exit.FINE


def test_the_text_before_may_be_named(run: Run, write: Write, tmp_path: Path) -> None:
    path = write("1_a.sql", TEXT)
    run("up")
    (tmp_path / "old.sql").write_text(TEXT)
    path.write_text(HARMLESS["comments"])
    assert run("repair").code == Exit.REFUSED
    assert run("repair", "1", "--old-file", str(tmp_path / "old.sql")).code == Exit.FINE


def test_a_text_that_was_not_the_applied_one_proves_nothing(run: Run, write: Write, tmp_path: Path) -> None:
    path = write("1_a.sql", TEXT)
    run("up")
    path.write_text(HARMLESS["comments"])
    (tmp_path / "old.sql").write_text(HARMLESS["blanks"])
    outcome = run("repair", "1", "--old-file", str(tmp_path / "old.sql"))
    assert outcome.code == Exit.REFUSED
    assert "--old-file FILE" in outcome.error


def test_an_applied_text_with_a_nul_byte_proves_nothing(
    run: Run, write: Write, owner: Connection, tmp_path: Path
) -> None:
    # The two texts differ only in a comment, but the server was sent the first one without its condition.
    old = b"CREATE TABLE a ();\nDELETE FROM a --\0\nWHERE false;"
    write("1_a.sql", old.decode().replace("\0", ""))
    run("up")
    owner.execute("UPDATE _sqlx_migrations SET checksum = %s", [hashlib.sha384(old).digest()])
    (tmp_path / "old.sql").write_bytes(old)
    outcome = run("repair", "1", "--old-file", str(tmp_path / "old.sql"))
    assert outcome.code == Exit.REFUSED
    assert "the applied text contains a NUL byte" in outcome.error


@promise("`repair` accepts a changed checksum only if the change is proven harmless", control=True)
@pytest.mark.parametrize(
    "edited",
    [
        TEXT.replace("DEFAULT 1", "DEFAULT 2"),
        TEXT.replace("id int", '"id " int'),
        f"-- no-transaction\n{TEXT}",
    ],
)
def test_a_significant_change_is_refused_with_7_and_no_checksum_is_accepted(
    run: Run, write: Write, git: Path, owner: Connection, edited: str
) -> None:
    write("1_a.sql", TEXT)
    harmless = write("2_b.sql", "SELECT 2;")
    commit(git)
    run("up")
    before = checksums(owner)
    write("1_a.sql", edited)
    harmless.write_text("SELECT 2; -- two")
    outcome = run("repair")
    assert outcome.code == Exit.REFUSED
    assert "this differs from what was applied" in outcome.error
    assert checksums(owner) == before
    # A single version that can be proven may be repaired alone.
    assert run("repair", "2").code == Exit.FINE


@promise("`repair` accepts a changed checksum only if the change is proven harmless", control=True)
def test_a_change_in_a_literal_that_continues_after_a_comment_is_refused(
    run: Run, write: Write, owner: Connection, tmp_path: Path
) -> None:
    text = "CREATE TABLE a ();\nCOMMENT ON TABLE a IS E'first; ' -- note\n  'it\\'s--x\n';\nSELECT 1;\n"
    path = write("1_a.sql", text)
    assert run("up").code == Exit.FINE
    comment = owner.execute("SELECT obj_description('a'::regclass)").fetchone()
    assert comment == ("first; it's--x\n",)
    (tmp_path / "old.sql").write_text(text)
    path.write_text(text.replace("--x", "--y"))
    outcome = run("repair", "1", "--old-file", str(tmp_path / "old.sql"))
    assert outcome.code == Exit.REFUSED
    assert "1_a.sql:2: this differs from what was applied" in outcome.error
    path.write_text(text.replace("SELECT 1;", "SELECT 1; -- one"))
    assert run("repair", "1", "--old-file", str(tmp_path / "old.sql")).code == Exit.FINE


def test_a_dry_run_changes_nothing(run: Run, write: Write, owner: Connection) -> None:
    path = write("1_a.sql", TEXT)
    run("up")
    before = checksums(owner)
    path.write_bytes(HARMLESS["line ends"].encode())
    said = json.loads(run("repair", "--dry-run", "--json").out)
    assert said == {
        "would_repair": [
            {"version": 1, "name": "1_a", "action": "checksum", "detail": "only line ends differ"}
        ]
    }
    assert checksums(owner) == before


@pytest.fixture
def dirty(run: Run, write: Write, owner: Connection) -> None:
    """Version 2 has started but not finished."""
    write("1_a.sql", TEXT)
    write("2_b.sql", "CREATE TABLE b ()")
    run("up")
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 2")


@pytest.mark.usefixtures("dirty")
def test_a_migration_that_was_finished_by_hand_is_marked_applied(run: Run, owner: Connection) -> None:
    assert run("up").code == Exit.MISMATCH
    assert run("repair", "--mark-applied", "2", "--yes").code == Exit.FINE
    assert applied_versions(owner) == [1, 2]
    assert run("status").code == Exit.FINE


@pytest.mark.usefixtures("dirty")
def test_after_forgetting_a_migration_undone_by_hand_it_is_applied_again(run: Run, owner: Connection) -> None:
    owner.execute("DROP TABLE b")
    assert run("repair", "--forget", "2", "--yes").code == Exit.FINE
    assert run("status").code == Exit.PENDING
    assert "applied 2_b (" in run("up").out


@pytest.mark.usefixtures("dirty")
@pytest.mark.parametrize("command", [("repair", "--forget", "2", "--yes"), ("baseline", "2", "--unchecked")])
def test_a_locked_ledger_is_waited_for_no_longer_than_the_option_says(
    run: Run, owner: Connection, command: tuple[str, ...]
) -> None:
    # A command that waits longer gets the lock then.
    owner.execute("SET idle_in_transaction_session_timeout = '20s'")
    with owner.transaction():
        owner.execute("LOCK TABLE _sqlx_migrations IN SHARE MODE")
        outcome = run(*command, "--wait", "0")
    assert outcome.code == Exit.LOCKED
    assert 'another session has a lock on "groundwork"."_sqlx_migrations"' in outcome.error
    assert "--wait" in outcome.error


def test_a_migration_without_its_file_can_be_forgotten(run: Run, write: Write, owner: Connection) -> None:
    path = write("1_a.sql", TEXT)
    run("up")
    path.unlink()
    assert run("status").code == Exit.MISMATCH
    assert run("repair", "--forget", "1", "--yes").code == Exit.FINE
    assert applied_versions(owner) == []


def test_a_pending_migration_that_was_done_by_hand_is_recorded_alone(
    run: Run, write: Write, owner: Connection
) -> None:
    write("1_a.sql", TEXT)
    run("up")
    for version in (2, 3):
        write(f"{version}_t.sql", f"CREATE TABLE t{version} ();")
    owner.execute("CREATE TABLE t3 ()")
    outcome = run("repair", "--mark-applied", "3", "--yes")
    assert (outcome.code, outcome.out) == (
        Exit.FINE,
        "repaired 3_t: mark-applied, it was pending and is now applied\n",
    )
    assert applied_versions(owner) == [1, 3]
    assert "applied 2_t (" in run("up").out
    assert run("status").code == Exit.FINE


@promise("`repair --moved` records a renumbered file only if its text is exactly the applied one")
def test_a_renumbered_migration_is_recorded_as_moved(run: Run, write: Write, owner: Connection) -> None:
    path = write("1_a.sql", TEXT)
    run("up")
    path.rename(path.with_name("7_a_new_name.sql"))
    assert "`groundwork migrate repair --moved 7`" in run("up").error
    # Otherwise the old row would stay.
    refused = run("repair", "--mark-applied", "7", "--yes")
    assert (refused.code, "--moved 7" in refused.error) == (Exit.REFUSED, True)
    refused = run("repair", "--moved", "7")
    assert refused.code == Exit.REFUSED
    assert re.match(r"cannot give the row of version 1 \(a, .* UTC\) the number 7 without", refused.error)
    done = run("repair", "--moved", "7", "--yes")
    assert done.out == "repaired 7_a_new_name: moved, it was applied as version 1\n"
    rows = owner.execute("SELECT version, description FROM _sqlx_migrations").fetchall()
    assert rows == [(7, "a new name")]
    assert run("status").code == Exit.FINE


@promise(
    "`repair --moved` records a renumbered file only if its text is exactly the applied one", control=True
)
def test_a_move_that_is_not_certain_is_refused_with_7(run: Run, write: Write, owner: Connection) -> None:
    first = write("1_a.sql", TEXT)
    second = write("2_b.sql", "SELECT 2;")
    write("3_same.sql", "SELECT 2;")
    run("up")
    before = checksums(owner)
    first.rename(first.with_name("7_a.sql"))
    first.with_name("7_a.sql").write_text(TEXT.replace("why", "because"))
    second.unlink()
    second.with_name("3_same.sql").rename(second.with_name("8_b.sql"))
    for version, said in (
        ("7", "7_a.sql was: the ledger has no row that has its checksum and no file"),
        ("8", "8_b.sql was: the ledger has 2 rows (2, 3) that have its checksum and no file"),
    ):
        outcome = run("repair", "--moved", version)
        assert (outcome.code, said in outcome.error) == (Exit.REFUSED, True), outcome.error
    write("1_a.sql", TEXT)
    outcome = run("repair", "--moved", "1")
    assert (outcome.code, "migration 1 (a) is in the ledger already" in outcome.error) == (
        Exit.REFUSED,
        True,
    )
    assert checksums(owner) == before


def test_forget_says_which_row_it_would_delete(run: Run, write: Write) -> None:
    path = write("1_users_email.sql", TEXT)
    run("up")
    path.unlink()
    refused = run("repair", "--forget", "1")
    assert refused.code == Exit.REFUSED
    assert re.match(
        r"cannot delete the row of version 1 \(users email, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\) from the ledger",
        refused.error,
    )


@pytest.mark.usefixtures("dirty")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--mark-applied", "2"], "pass --yes"),
        (["--forget", "2"], "pass --yes"),
        (["--mark-applied", "1", "--yes"], "it is applied already"),
        (["--forget", "1", "--yes"], "Revert it with `migrate down`"),
        (["--forget", "9", "--yes"], "no row of version 9"),
    ],
)
def test_an_unconfirmed_or_wrong_repair_is_refused_with_7(
    run: Run, owner: Connection, arguments: list[str], why: str
) -> None:
    before = owner.execute("SELECT version, success FROM _sqlx_migrations ORDER BY 1").fetchall()
    outcome = run("repair", *arguments)
    assert (outcome.code, why in outcome.error) == (Exit.REFUSED, True)
    assert owner.execute("SELECT version, success FROM _sqlx_migrations ORDER BY 1").fetchall() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mark-applied", "1", "--forget", "2", "--yes"],
        ["1", "--forget", "2", "--yes"],
        ["--moved", "1", "--forget", "2"],
        ["--moved", "1", "--dry-run"],
        ["--old-file", __file__],
        ["1", "2", "--old-file", __file__],
    ],
)
def test_a_contradictory_command_line_is_refused_with_2(run: Run, arguments: list[str]) -> None:
    assert run("repair", *arguments).code == Exit.USAGE


def test_a_database_without_a_ledger_has_nothing_to_repair(run: Run) -> None:
    assert run("repair").code == Exit.REFUSED
