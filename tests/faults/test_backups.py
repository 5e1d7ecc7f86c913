"""Faults of backups: damage that a restore drill must find, kills at each step, and a full repository."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from db.migrator import MIGRATIONS_FOLDER, apply_pending, read_source, revert
from infra.docker.engine import DockerError, docker
from infra.spec import backup, backup_repository, postgres
from ops.backup import checks
from ops.backup.drill import DrillOptions, drill
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.evidence import Evidence
from ops.backup.pgbackrest import Progress
from ops.backup.post_restore import PostRestore
from ops.backup.restore import Target, abandon, restore
from ops.backup.take_backup import take_backup
from ops.backup.workbench import refuse_during_restore, workbench
from ops.errors import Exit, OpsError
from tests.backed_up import CONNECTION_LIMITS, BackedUp, backed_up_server
from tests.containers import wait_until
from tests.promises import promise
from tests.scale import IS_FULL

RESTORE_STEPS = [
    "choosing the backup",
    "writing a marker",
    "stopping Postgres",
    "restoring the files",
    "exchanging the folders",
    "replaying WAL",
    "applying the stack's roles",
    "invalidating the cache",
    "starting Postgres",
    "removing the old data",
]
BACKUP_STEPS = [
    "reading the repository",
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
def empty(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackedUp]:
    """A server that has no backup until the fixture `backed_up` takes one."""
    with backed_up_server(tmp_path_factory.mktemp("backup")) as server:
        server.note("kept")
        yield server


@pytest.fixture(scope="module")
def backed_up(empty: BackedUp) -> BackedUp:
    empty.backup()
    return empty


def _drill(backed_up: BackedUp, moment: datetime | None = None, progress: Progress | None = None) -> Evidence:
    options = DrillOptions(MIGRATIONS_FOLDER, CONNECTION_LIMITS, moment)
    return drill(backed_up.site, options, progress or backed_up.said.append)


def _throwaways(backed_up: BackedUp) -> str:
    label = f"label=groundwork.workbench={backed_up.site.prefix}"
    return docker("ps", "--all", "--quiet", "--filter", label)


def test_a_drill_without_a_backup_is_refused(empty: BackedUp) -> None:
    with pytest.raises(OutsideWindow, match="there is no backup to drill with") as refused:
        _drill(empty)
    assert refused.value.exit_code == Exit.USAGE
    assert _throwaways(empty) == ""


def test_a_drill_for_a_time_outside_the_window_is_refused(backed_up: BackedUp) -> None:
    with pytest.raises(OutsideWindow, match="restorable: 20"):
        _drill(backed_up, datetime.now(UTC) - timedelta(days=1))
    assert _throwaways(backed_up) == ""


@promise("a killed backup is complete or absent, and the next one succeeds")
@pytest.mark.parametrize("step", BACKUP_STEPS if IS_FULL else BACKUP_STEPS[3:])
def test_a_killed_backup_is_absent_or_complete_and_the_next_one_succeeds(
    backed_up: BackedUp, step: str
) -> None:
    before = {b.label for b in backed_up.contents().backups}
    backed_up.killed_at(step, "backup", "full")
    # The processes that the killed command started continue in the container. Kill them too.
    docker("exec", backed_up.site.postgres, "sh", "-c", _KILL_PGBACKREST)
    made = {b.label for b in backed_up.contents().backups} - before
    # At the last step, only the record of the backup was missing.
    assert not made or step == BACKUP_STEPS[-1]
    backed_up.backup("full")
    assert "backup:" in checks.verify_repository(backed_up.site.postgres)
    assert "no gap" in checks.no_gap(backed_up.contents())


@promise("a killed backup is complete or absent, and the next one succeeds")
def test_a_stopped_backup_leaves_no_pgbackrest_running(backed_up: BackedUp) -> None:
    """`docker exec` forwards no signal. A pgBackRest that continued would refuse the next backup."""
    before = {b.label for b in backed_up.contents().backups}

    def stop(line: str) -> None:
        if line.startswith("backup start archive"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_backup(backed_up.site, kind="full", progress=stop)
    assert {b.label for b in backed_up.contents().backups} == before
    backed_up.backup("full")


# procps is not in the image.
_KILL_PGBACKREST = (
    'for p in /proc/[0-9]*; do if grep -aq "^pgbackrest" $p/cmdline 2>/dev/null'
    ' && ! grep -aq archive-push $p/cmdline; then kill -9 "${p#/proc/}"; fi; done; true'
)


@promise("damage ends a restore or drill with a reason, and never with missing data")
def test_a_flipped_bit_and_a_missing_wal_file_each_fail_a_check_of_the_drill(backed_up: BackedUp) -> None:
    flip = """
        f=$(ls -S /repo/backup/groundwork/*F/bundle/* | head -1)
        cp "$f" /repo/flipped
        byte=$(od -An -tu1 -j50000 -N1 "$f")
        printf "\\\\$(printf %o $((byte ^ 1)))" | dd of="$f" bs=1 seek=50000 conv=notrunc status=none
        ! cmp -s "$f" /repo/flipped
        printf %s "$f"
    """
    backed_up.note("in-the-missing-file")
    missing = backed_up.noted_in
    backed_up.archived()
    backed_up.note("after-the-missing-file")
    backed_up.archived()
    path = backed_up.in_volume(flip)
    try:
        found = _drill(backed_up)
    finally:
        backed_up.in_volume('cat /repo/flipped > "$1"; rm /repo/flipped', path)
    assert [check.name for check in found.failures] == ["repository"]
    assert "checksum invalid: 1" in found.checks["repository"].detail
    assert found.checks["recovery"].ok is None
    backed_up.in_volume('mkdir /repo/aside; mv /repo/archive/groundwork/*/*/"$1"-* /repo/aside', missing)
    try:
        found = _drill(backed_up)
        assert [check.name for check in found.failures] == ["wal"]
        assert f"WAL file {missing} is missing" in found.checks["wal"].detail
        if IS_FULL:
            # The control: a restore that checks only whether the server starts finds no error.
            assert "in-the-missing-file" not in _naive_restore(backed_up)
    finally:
        backed_up.in_volume(
            'f=$(ls /repo/aside); mv "/repo/aside/$f" /repo/archive/groundwork/*/"${f%????????-*}"/;'
            " rmdir /repo/aside"
        )


@promise("a killed drill does no harm, and the next one cleans up after it")
@promise("a drill of an intact repository succeeds and measures RTO and RPO")
@promise("a drill proves that `migrate up` works after a restore to a time before migrations")
@promise("a drill's migrations reach no other server")
@pytest.mark.parametrize("step", [step for step, tried in DRILL_STEPS.items() if tried])
def test_a_killed_drill_does_no_harm_and_the_next_one_cleans_up_and_measures(
    backed_up: BackedUp, step: str
) -> None:
    files = "cd /repo; find . -type f ! -path './archive/*' -exec sha1sum {} + | sort"
    before = backed_up.in_volume(files)
    backed_up.killed_at(step, "drill")
    # The control: there are leftover containers or volumes.
    assert _throwaways(backed_up) != ""
    note = f"beside-a-drill-{step.split()[0]}"
    # As after a rotation: the drill logs in as role app.
    backed_up.sql("ALTER ROLE app_a NOLOGIN")
    # The data access cannot read the schema of that time.
    url, migrations = backed_up.server.database_url("migrator"), read_source()
    revert(url, migrations, target=5)
    moment = backed_up.note(note)
    apply_pending(url, migrations)
    devices: list[str] = []

    def note_devices(line: str) -> None:
        if line.startswith("applying the stack's roles"):
            devices.append(docker("exec", f"{backed_up.site.prefix}-drill", "cat", "/proc/net/dev"))

    found = _drill(backed_up, moment, note_devices)
    (lines,) = devices
    assert [line.partition(":")[0].strip() for line in lines.splitlines()[2:]] == ["lo"]
    assert found.ok, found.document()
    assert found.checks["migrations"].detail.startswith("applied 0006_activities.up.sql, 0007_")
    assert found.rto_seconds is not None
    assert found.rpo_seconds is not None
    assert found.rto_seconds > 0
    assert found.aimed_for is not None
    assert found.newest_commit is None or found.newest_commit <= found.aimed_for
    assert found.rows["users"] >= 1
    assert backed_up.in_volume(files) == before
    assert _throwaways(backed_up) == ""
    assert note in backed_up.notes()


@promise("damage ends a restore or drill with a reason, and never with missing data")
def test_damaged_wal_fails_a_recovery_instead_of_shortening_it(backed_up: BackedUp) -> None:
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
        # The control: with pgBackRest's own restore_command the server starts, but the row is lost.
        assert "in-the-damaged-file" not in _naive_restore(backed_up)
        with pytest.raises(BackupError, match="the previous data is back and serves again"):
            backed_up.restore(None)
        assert "in-the-damaged-file" in backed_up.notes()
        assert backed_up.started_at() != serving_since
    finally:
        backed_up.in_volume(
            'cat /repo/aside > $(ls /repo/archive/groundwork/*/*/"$1"-*); rm /repo/aside', damaged
        )


def _naive_restore(backed_up: BackedUp) -> set[str]:
    """Restore to the latest state as one would by hand, check that the server starts, and return its rows."""
    volumes = {
        backup_repository.FOLDER: (backed_up.site.repository_volume, False),
        postgres.CONFIG_DIR: (backed_up.site.config_volume, False),
    }
    with workbench(backed_up.site, "naive", volumes) as bench:
        bench.sh(f"{backup.PGBACKREST} restore --type=default")
        bench.start_server(backup.PGDATA, archive_mode="off")
        sql = "SELECT username FROM groundwork.users"
        return set(bench.sh('psql -Atc "$1" groundwork', sql).split())


@promise("no server starts while a restore swaps the data folders")
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


@promise("a killed restore can be abandoned until recovery has ended")
def test_a_killed_restore_can_be_abandoned_before_recovery_has_ended(backed_up: BackedUp) -> None:
    moment = backed_up.note("given-up")
    backed_up.note("later-than-given-up")
    backed_up.killed_at("exchanging the folders", "restore", moment.isoformat())
    _require_refusal(backed_up)
    abandon(backed_up.site, backed_up.said.append)
    refuse_during_restore(backed_up.checkout, "test")
    assert {"given-up", "later-than-given-up"} <= backed_up.notes()


@pytest.fixture(scope="module")
def recovered(backed_up: BackedUp) -> datetime:
    """The target of a restore that was killed when it had recovered. The last of its tests completes it."""
    moment = backed_up.note("before-the-restore")
    backed_up.note("newer-and-cached")
    backed_up.killed_at("invalidating the cache", "restore", moment.isoformat())
    return moment


@promise("a killed restore can be abandoned until recovery has ended")
def test_a_restore_that_has_recovered_can_only_be_completed(backed_up: BackedUp, recovered: datetime) -> None:
    with pytest.raises(OpsError, match=r"has recovered but is not finished.*--stack test`") as refused:
        abandon(backed_up.site, backed_up.said.append)
    assert refused.value.exit_code == Exit.REFUSED
    with pytest.raises(OpsError, match="has recovered but is not finished"):
        restore(backed_up.site, Target(None), backed_up.post_restore(), backed_up.said.append)
    # Neither refusal has ended the refusal of other commands.
    _require_refusal(backed_up)


@promise("the cache serves nothing newer than the restored rows")
def test_no_server_starts_until_the_cache_is_invalidated(backed_up: BackedUp, recovered: datetime) -> None:
    def fail(_: Progress) -> None:
        raise BackupError("cannot invalidate the cache")

    steps = PostRestore(backed_up.apply_roles, fail)
    with pytest.raises(BackupError, match="cannot invalidate"):
        restore(backed_up.site, Target(recovered), steps, backed_up.said.append)
    _require_refusal(backed_up)
    docker("start", backed_up.site.postgres)
    assert docker("wait", backed_up.site.postgres, timeout_seconds=60).strip() == "1"


@promise("the same command completes a restore that was killed at any step")
def test_a_resumed_restore_starts_a_primary_and_keeps_what_it_has_written(
    backed_up: BackedUp, recovered: datetime
) -> None:
    _interrupt_at_the_start(backed_up, recovered)
    # Patroni starts every server as a standby. It writes the file, and removes it when it promotes the server.
    backed_up.in_volume("touch /data/15/standby.signal")
    backed_up.killed_at("removing the old data", "restore", recovered.isoformat())
    since = backed_up.started_at()
    backed_up.note("since-the-restore")
    _complete_restore(backed_up, recovered, kept="since-the-restore", lost="newer-and-cached")
    assert backed_up.started_at() == since
    refuse_during_restore(backed_up.checkout, "test")
    assert any(
        line.startswith("resuming the interrupted restore that began at 20") for line in backed_up.said
    )


def _interrupt_at_the_start(backed_up: BackedUp, moment: datetime) -> None:
    """Restore in this process, and interrupt it when it starts Postgres."""

    def say(line: str) -> None:
        if line.startswith("starting Postgres"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(backed_up.site, Target(moment), backed_up.post_restore(), say)


def _complete_restore(backed_up: BackedUp, moment: datetime, *, kept: str, lost: str) -> None:
    backed_up.restore(moment)
    notes = backed_up.notes()
    assert {"kept", kept} <= notes
    assert lost not in notes
    assert backed_up.in_volume("ls /data").split() == ["15"]
    assert _throwaways(backed_up) == ""
    backed_up.note("after")
    backed_up.archived()
    backed_up.sql("DELETE FROM groundwork.users WHERE username = 'after'")


def _require_refusal(backed_up: BackedUp) -> None:
    with pytest.raises(OpsError, match="run the same `groundwork restore --stack test` again") as locked:
        refuse_during_restore(backed_up.checkout, "test")
    assert locked.value.exit_code == Exit.LOCKED


@pytest.mark.skipif(
    not IS_FULL, reason="the restores above are killed at two steps, and the second one is completed"
)
@promise("the same command completes a restore that was killed at any step")
@pytest.mark.parametrize("step", RESTORE_STEPS)
def test_a_restore_killed_at_a_step_is_completed_by_the_next(backed_up: BackedUp, step: str) -> None:
    backed_up.backup()
    moment = backed_up.note(f"before-{step.split()[0]}")
    backed_up.note("later")
    backed_up.killed_at(step, "restore", moment.isoformat())
    _complete_restore(backed_up, moment, kept=f"before-{step.split()[0]}", lost="later")


@promise("a full backup repository is reported, and the server keeps running")
def test_a_full_repository_is_reported_in_one_line_and_the_server_keeps_running(
    docker_engine: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("full")
    with backed_up_server(folder, repository_mib=3, queue_max_bytes=64 * 1024**2) as small:
        with pytest.raises(BackupError, match="no space is left for the backup repository") as refused:
            small.backup("full")
        assert "\n" not in str(refused.value)
        assert refused.value.exit_code == Exit.ERROR
        # The failed backup was removed, because the repository still needs space for WAL.
        small.archived()
        assert small.contents().backups == ()
        # Beyond the queue's limit, WAL that cannot be archived is dropped, so that the server's disk does not fill.
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
