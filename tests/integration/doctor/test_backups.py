"""The check `backups` with a real repository: new, empty, old, and unreadable in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.docker.engine import File, docker, write_files
from infra.spec import backup, postgres, roles
from ops.backup.errors import BackupError
from ops.doctor.check_result import CheckResult, CheckStatus
from tests.backed_up import BackedUp, backed_up_server
from tests.conftest import Database
from tests.containers import Server
from tests.integration.doctor.asking import Ask, ask
from tests.monitored import monitored
from tests.promises import promise

HOUR = 3600
_INFO = "/repo/backup/groundwork/backup.info"


@pytest.fixture(scope="module")
def empty(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackedUp]:
    """A server whose repository has WAL but no backup, until the fixture `backed_up` takes one."""
    with backed_up_server(tmp_path_factory.mktemp("backup")) as server:
        yield server


@pytest.fixture(scope="module")
def backed_up(empty: BackedUp) -> BackedUp:
    empty.backup()
    return empty


@pytest.fixture(scope="module")
def asked(empty: BackedUp, redis_server: Server) -> Ask:
    stack = monitored(Database(empty.server, roles.DATABASE), redis_server)
    return lambda name, **terms: ask(stack, name, **terms)


@contextmanager
def undone(server: BackedUp, script: str, inverse: str) -> Iterator[None]:
    """Change the repository's volume with a shell script during the block."""
    server.in_volume(script)
    try:
        yield
    finally:
        server.in_volume(inverse)


def one_clear_line(found: CheckResult) -> str:
    assert found.status is CheckStatus.FAIL
    assert "\n" not in found.text
    assert found.text.isprintable()
    assert found.advice
    return found.text


def test_a_repository_without_a_backup_is_a_warning(empty: BackedUp, asked: Ask) -> None:
    found = asked("backups")
    assert found.status is CheckStatus.WARN
    assert "no complete backup yet" in found.text
    assert "groundwork backup" in str(found.advice)


def test_a_fresh_backup_is_fine(backed_up: BackedUp, asked: Ask) -> None:
    found = asked("backups")
    assert found.status is CheckStatus.OK, found
    assert backed_up.contents().backups[-1].label in found.text


@promise("the age of the backups is that of the newest complete backup")
def test_a_backup_grows_old(backed_up: BackedUp, asked: Ask) -> None:
    for hours, status in ((25, CheckStatus.OK), (27, CheckStatus.WARN), (51, CheckStatus.FAIL)):
        found = asked("backups", seconds_ahead=hours * HOUR)
        assert found.status is status, (hours, found)
        assert f"{hours} hours old" in found.text


def test_a_wrong_key_is_one_clear_line_that_does_not_hold_it(backed_up: BackedUp, asked: Ask) -> None:
    right = docker("exec", backed_up.site.postgres, "cat", backup.CONFIG_FILE)
    wrong = backup.render_conf(cipher_pass="not-that-one", retention_full=2, queue_max_bytes=1024**3)
    _configure(backed_up, wrong)
    try:
        text = one_clear_line(asked("backups"))
        with pytest.raises(BackupError, match="cannot read the backup repository: it is damaged") as refused:
            backed_up.contents()
    finally:
        _configure(backed_up, right)
    assert "another key" in text
    assert "not-that-one" not in text + str(refused.value)
    assert asked("backups").status is CheckStatus.OK


@pytest.mark.parametrize(
    ("script", "inverse", "reason"),
    [
        ("chmod 0 /repo/backup/groundwork", "chmod 0750 /repo/backup/groundwork", "Permission denied"),
        (
            f"for f in {_INFO} {_INFO}.copy; do cp $f $f.kept; head -c 100 /dev/urandom > $f; done",
            f"for f in {_INFO} {_INFO}.copy; do mv $f.kept $f; done",
            "is damaged",
        ),
        ("mv /repo/backup /repo/aside", "mv /repo/aside /repo/backup", "missing stanza path"),
    ],
    ids=["unreadable", "damaged", "gone"],
)
def test_a_repository_that_cannot_be_read_is_one_clear_line(
    backed_up: BackedUp, asked: Ask, script: str, inverse: str, reason: str
) -> None:
    with undone(backed_up, script, inverse):
        assert reason in one_clear_line(asked("backups"))
        with pytest.raises(BackupError, match=reason):
            backed_up.contents()
    assert asked("backups").status is CheckStatus.OK


@promise("doctor reports WAL that is missing after the newest backup until the next backup")
def test_a_gap_in_the_wal_after_the_newest_backup_is_a_failure(backed_up: BackedUp, asked: Ask) -> None:
    """The exporter sees only the file that was archived last, which is there."""
    lost, *_ = [
        backed_up.sql(
            "SELECT pg_walfile_name(pg_logical_emit_message(true, 'tick', '')); SELECT pg_switch_wal()"
        )
        for _ in range(2)
    ]
    backed_up.archived()
    name = lost.split()[0]
    folder = f"/repo/archive/groundwork/*/{name[:16]}"
    with undone(backed_up, f"mv {folder}/{name}-* /repo/", f"mv /repo/{name}-* {folder}/"):
        assert asked("backups").status is CheckStatus.OK
        found = asked("backups", seconds_ahead=600)
        assert "WAL is missing after" in one_clear_line(found)
        assert "groundwork backup" in found.advice
        assert backed_up.sql("SELECT has_last_wal FROM monitoring.backups()") == "t"
        backed_up.backup()
        assert asked("backups", seconds_ahead=600).status is CheckStatus.OK


@promise("the age of the backups is that of the newest complete backup")
def test_a_backup_that_was_broken_off_does_not_make_the_age_younger(backed_up: BackedUp, asked: Ask) -> None:
    before = asked("backups").text
    with undone(
        backed_up,
        "mkdir /repo/backup/groundwork/20990101-000000F",
        "rmdir /repo/backup/groundwork/20990101-000000F",
    ):
        assert asked("backups").text == before


def _configure(server: BackedUp, text: str) -> None:
    write_files(
        server.site.config_volume,
        server.site.image,
        {Path(backup.CONFIG_FILE).name: File(text, postgres.UID, postgres.UID)},
    )
