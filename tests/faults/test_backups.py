"""Backups that break: damage that a drill must find, kills at each step, and a repository without room."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.docker.engine import DockerError, docker
from infra.spec import backup, backup_repository, postgres
from ops.backup.drill import Terms, drill
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.evidence import Evidence
from ops.backup.restore import Target, abandon, restore
from ops.backup.workbench import refuse_during_restore, workbench
from ops.errors import Exit, OpsError
from tests.backed_up import BackedUp, backed_up_server
from tests.containers import wait_until
from tests.scale import IS_FULL

# Each leaves the volume in another state; the others are tried at full scale.
RESTORE_STEPS = {
    "choosing the backup": IS_FULL,
    "writing a marker": IS_FULL,
    "stopping Postgres": IS_FULL,
    "restoring the files": True,
    "exchanging the folders": True,
    "replaying WAL": True,
    "applying the stack's roles": True,
    "having the cache forget": IS_FULL,
    "starting Postgres": True,
    "removing the old data": IS_FULL,
}
BACKUP_STEPS = [
    "looking at the repository",
    "writing a marker",
    "backup start archive",
    "backup stop archive",
]

DRILL_STEPS = {
    "writing a marker": IS_FULL,
    "reading every file": IS_FULL,
    "restoring backup": IS_FULL,
    "replaying WAL": True,
    "checking every table": IS_FULL,
}


@pytest.fixture(scope="module")
def backed_up(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackedUp]:
    with backed_up_server(tmp_path_factory.mktemp("backup")) as server:
        server.note("kept")
        server.backup()
        yield server


def _drill(backed_up: BackedUp, moment: datetime | None = None) -> Evidence:
    return drill(backed_up.site, Terms(moment, ca_file=backed_up.server.ca_file), backed_up.said.append)


def _throwaways(backed_up: BackedUp) -> str:
    label = f"label=groundwork.workbench={backed_up.site.prefix}"
    listed = docker("ps", "--all", "--quiet", "--filter", label)
    return listed + docker("network", "ls", "--quiet", "--filter", label)


def test_a_drill_of_a_sound_repository_holds_and_measures(backed_up: BackedUp) -> None:
    backed_up.note("drilled")
    before = backed_up.in_volume("cd /repo; find . -type f ! -path './archive/*' -exec sha1sum {} + | sort")
    found = _drill(backed_up)
    assert found.ok, found.document()
    assert found.rto_seconds is not None
    assert found.rpo_seconds is not None
    assert found.rto_seconds > 0
    assert found.aimed_for is not None
    assert found.newest_commit is None or found.newest_commit <= found.aimed_for
    assert found.rows["users"] >= 1
    after = backed_up.in_volume("cd /repo; find . -type f ! -path './archive/*' -exec sha1sum {} + | sort")
    assert after == before
    assert _throwaways(backed_up) == ""


def test_a_flipped_bit_in_a_backup_fails_the_drill(backed_up: BackedUp) -> None:
    flip = """
        f=$(ls -S /repo/backup/groundwork/*F/bundle/* | head -1)
        cp "$f" /repo/aside
        byte=$(od -An -tu1 -j50000 -N1 "$f")
        printf "\\\\$(printf %o $((byte ^ 1)))" | dd of="$f" bs=1 seek=50000 conv=notrunc status=none
        ! cmp -s "$f" /repo/aside
        printf %s "$f"
    """
    path = backed_up.in_volume(flip)
    try:
        found = _drill(backed_up)
    finally:
        backed_up.in_volume('cat /repo/aside > "$1"; rm /repo/aside', path)
    assert [check.name for check in found.failures] == ["repository"]
    assert "checksum invalid: 1" in found.checks["repository"].detail
    assert found.checks["recovery"].ok is None


def test_a_missing_wal_file_fails_the_drill_and_not_a_server_that_just_starts(backed_up: BackedUp) -> None:
    backed_up.note("in-the-missing-file")
    missing = backed_up.noted_in
    backed_up.archived()
    backed_up.note("after-the-missing-file")
    backed_up.archived()
    backed_up.in_volume('mkdir /repo/aside; mv /repo/archive/groundwork/*/*/"$1"-* /repo/aside', missing)
    try:
        found = _drill(backed_up)
        assert [check.name for check in found.failures] == ["wal"]
        assert f"WAL file {missing} is missing" in found.checks["wal"].detail
        # The control: a restore that only looks whether the server starts finds nothing wrong.
        assert "in-the-missing-file" not in _naive_restore(backed_up)
    finally:
        backed_up.in_volume(
            'f=$(ls /repo/aside); mv "/repo/aside/$f" /repo/archive/groundwork/*/"${f%????????-*}"/'
        )
        backed_up.in_volume("rmdir /repo/aside")
    assert "in-the-missing-file" in _naive_restore(backed_up)


def test_damaged_wal_ends_a_recovery_instead_of_cutting_it_short(backed_up: BackedUp) -> None:
    backed_up.note("in-the-damaged-file")
    damaged = backed_up.noted_in
    backed_up.archived()
    backed_up.in_volume(
        'f=$(ls /repo/archive/groundwork/*/*/"$1"-*); cp "$f" /repo/aside;'
        ' printf x | dd of="$f" bs=1 seek=40 conv=notrunc status=none',
        damaged,
    )
    serving_since = backed_up.started_at()
    try:
        # The control: with pgBackRest's own restore_command the server starts, and has lost the row.
        assert "in-the-damaged-file" not in _naive_restore(backed_up)
        with pytest.raises(BackupError, match="the data is as it was before, and serves again"):
            backed_up.restore(None)
        assert "in-the-damaged-file" in backed_up.notes()
        assert backed_up.started_at() != serving_since
    finally:
        backed_up.in_volume(
            'cat /repo/aside > $(ls /repo/archive/groundwork/*/*/"$1"-*); rm /repo/aside', damaged
        )
    backed_up.restore(None)
    assert "in-the-damaged-file" in backed_up.notes()


@pytest.mark.parametrize("step", [step for step, tried in RESTORE_STEPS.items() if tried])
def test_a_restore_killed_at_a_step_is_completed_by_the_next(backed_up: BackedUp, step: str) -> None:
    backed_up.backup()
    moment = backed_up.note(f"before-{step.split()[0]}")
    backed_up.note("later")
    backed_up.killed_at(step, "restore", moment.isoformat())
    backed_up.restore(moment)
    notes = backed_up.notes()
    assert {"kept", f"before-{step.split()[0]}"} <= notes
    assert "later" not in notes
    assert backed_up.in_volume("ls /data").split() == ["15"]
    assert _throwaways(backed_up) == ""
    backed_up.note("after")
    backed_up.archived()
    backed_up.sql("DELETE FROM groundwork.users WHERE username = 'after'")


def test_a_killed_restore_can_be_given_up_until_it_has_recovered(backed_up: BackedUp) -> None:
    backed_up.backup()
    moment = backed_up.note("given-up")
    backed_up.note("never-taken-back")
    backed_up.killed_at("exchanging the folders", "restore", moment.isoformat())
    with pytest.raises(OpsError, match="run the same `groundwork restore` again") as locked:
        refuse_during_restore(backed_up.site.prefix, "test")
    assert locked.value.exit_code == Exit.LOCKED
    abandon(backed_up.site, backed_up.said.append)
    refuse_during_restore(backed_up.site.prefix, "test")
    assert {"given-up", "never-taken-back"} <= backed_up.notes()
    backed_up.killed_at("having the cache forget", "restore", moment.isoformat())
    with pytest.raises(OpsError, match="finishes it, then another can begin") as refused:
        abandon(backed_up.site, backed_up.said.append)
    assert refused.value.exit_code == Exit.REFUSED
    with pytest.raises(OpsError, match="finishes it, then another can begin"):
        restore(backed_up.site, Target(None), backed_up.keepers(), backed_up.said.append)
    backed_up.restore(moment)
    assert "never-taken-back" not in backed_up.notes()


def test_no_server_starts_while_the_folders_are_being_exchanged(backed_up: BackedUp) -> None:
    docker("stop", backed_up.site.postgres)
    backed_up.in_volume("mv /data/15 /data/15.before-restore")
    with pytest.raises(DockerError, match="a restore was interrupted"):
        docker(
            *("run", "--rm", "--user", str(postgres.UID), "--network", "none"),
            *("--volume", f"{backed_up.site.data_volume}:{postgres.DATA_DIR}", backed_up.site.image),
        )
    assert backed_up.in_volume("ls /data").split() == ["15.before-restore"]
    abandon(backed_up.site, backed_up.said.append)
    assert "kept" in backed_up.notes()


@pytest.mark.parametrize("step", BACKUP_STEPS if IS_FULL else BACKUP_STEPS[3:])
def test_a_killed_backup_is_none_or_whole_and_the_next_one_is_made(backed_up: BackedUp, step: str) -> None:
    before = {b.label for b in backed_up.contents().backups}
    backed_up.killed_at(step, "backup", "full")
    # What the killed command had started goes on in the container; it is killed as well.
    docker("exec", backed_up.site.postgres, "sh", "-c", _KILL_PGBACKREST)
    made = {b.label for b in backed_up.contents().backups} - before
    # At its last step nothing was left to do but to write it down.
    assert not made or step == BACKUP_STEPS[-1]
    backed_up.backup("full")
    found = _drill(backed_up)
    assert found.ok, found.document()


@pytest.mark.parametrize("step", [step for step, tried in DRILL_STEPS.items() if tried])
def test_a_killed_drill_harms_nothing_and_is_swept_by_the_next(backed_up: BackedUp, step: str) -> None:
    backed_up.backup()
    backed_up.killed_at(step, "drill")
    # The control: there is something to sweep.
    assert _throwaways(backed_up) != ""
    note = f"beside-a-drill-{step.split()[0]}"
    backed_up.note(note)
    found = _drill(backed_up)
    assert found.ok, found.document()
    assert _throwaways(backed_up) == ""
    assert note in backed_up.notes()


# procps is not in the image.
_KILL_PGBACKREST = (
    'for p in /proc/[0-9]*; do if grep -aq "^pgbackrest" $p/cmdline 2>/dev/null'
    ' && ! grep -aq archive-push $p/cmdline; then kill -9 "${p#/proc/}"; fi; done; true'
)


def _naive_restore(backed_up: BackedUp) -> set[str]:
    """Restore to the newest as by hand, ask whether the server starts, and return the rows it has."""
    volumes = {
        backup_repository.FOLDER: (backed_up.site.repository_volume, False),
        postgres.CONFIG_DIR: (backed_up.site.config_volume, False),
    }
    with workbench(backed_up.site, "naive", volumes) as bench:
        bench.sh(f"{backup.PGBACKREST} restore --type=default")
        bench.start_server(backup.PGDATA, archive_mode="off")
        sql = "SELECT username FROM groundwork.users"
        return set(bench.sh('psql -Atc "$1" groundwork', sql).split())


def test_a_full_repository_is_one_line_and_the_server_goes_on(
    docker_engine: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    options = [
        *("--opt", "type=tmpfs", "--opt", "device=tmpfs"),
        *("--opt", f"o=size=3m,uid={postgres.UID},gid={postgres.GID},mode=0700"),
    ]
    folder = tmp_path_factory.mktemp("full")
    with backed_up_server(folder, repository_options=options, queue_max_bytes=64 * 1024**2) as small:
        with pytest.raises(BackupError, match="no space is left for the backup repository") as refused:
            small.backup("full")
        assert "\n" not in str(refused.value)
        assert refused.value.exit_code == Exit.ERROR
        # What was begun has made room again, for WAL goes on coming.
        small.archived()
        assert small.contents().backups == ()
        # WAL that cannot be archived is given up beyond the queue's limit: the server's disk does not fill.
        small.sql("CREATE TABLE groundwork.filler AS SELECT md5(i::text) FROM generate_series(1, 400000) i")
        for _ in range(12):
            small.note("goes-on")
            small.sql("SELECT pg_switch_wal()")
        wait_until(lambda: _waiting(small) <= 5, 120)
        assert "goes-on" in small.notes()
        with pytest.raises(BackupError, match="no space is left for the backup repository"):
            small.backup("full")


def _waiting(backed_up: BackedUp) -> int:
    return int(backed_up.sql("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"))


def test_a_drill_without_a_backup_or_for_a_moment_outside_says_so(
    docker_engine: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with backed_up_server(tmp_path_factory.mktemp("empty")) as empty:
        empty.note("x")
        with pytest.raises(OutsideWindow, match="there is no backup to drill with") as refused:
            _drill(empty)
        assert refused.value.exit_code == Exit.USAGE
        empty.backup()
        with pytest.raises(OutsideWindow, match="what can: 20"):
            _drill(empty, datetime.now(UTC) - timedelta(days=1))
        assert _throwaways(empty) == ""
