"""Backups of a real server and restores into it: which data is restored, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from msgspec import structs

from cache.settings import CacheSettings
from cache.url_source import UrlSource
from db import DataAccess
from db.errors import InvalidSetting
from db.settings import DatabaseSettings
from infra.docker.engine import docker, inspect
from ops.backup import last_wal, markers, post_restore
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.restore import Restored, Target, plan
from ops.backup.wal import Segment, parse_lsn
from ops.backup.workbench import Workbench
from ops.errors import Exit, OpsError
from tests import containers
from tests.backed_up import BackedUp
from tests.cases import in_case
from tests.containers import START_SECONDS, Server, wait_until
from tests.promises import promise
from tests.scale import IS_FULL


def test_the_first_backup_is_full_and_the_next_incremental(backed_up: BackedUp) -> None:
    first = backed_up.contents().backups[0]
    second = backed_up.backup()
    assert (first.kind, second.kind) == ("full", "incr")
    assert 0 < second.stored_bytes < first.stored_bytes
    assert first.wal_stop < second.wal_stop


@promise("nothing in the backup repository can be read without its key")
def test_nothing_in_the_repository_can_be_read_without_its_key(backed_up: BackedUp) -> None:
    backed_up.archived()
    found = backed_up.in_volume(
        "grep -rl kept-and-in-the-clear /data/15/base | head -1; grep -rl in-the-clear /repo || true"
    )
    assert "/data/" in found
    assert "/repo/" not in found


@promise("a commit is archived within `archive_timeout`, also after a restart")
def test_a_commit_is_archived_by_the_clock_also_after_a_restart(backed_up: BackedUp) -> None:
    # A checkpointer that starts during recovery sleeps for checkpoint_timeout unless it is woken.
    backed_up.server.restart()
    backed_up.note("after-restart")
    backed_up.archived()


@dataclass
class Rewound:
    """A restore to a time before rows were changed and cached, before a rotation, and before `late`."""

    restored: Restored
    moment: datetime
    late: datetime
    # The timeline that the restore left.
    left: int
    user_id: int
    cache: CacheSettings
    database: DatabaseSettings


@pytest.fixture(scope="module")
def rewound(backed_up: BackedUp, redis_server: Server) -> Rewound:
    moment = backed_up.note("before")
    user_id = int(backed_up.sql("SELECT id FROM groundwork.users WHERE username = 'before'"))
    database = DatabaseSettings(
        UrlSource("DATABASE_URL", InvalidSetting, backed_up.server.database_url("app_a")), pool_size=2
    )
    # The cache may be in any namespace.
    cache = CacheSettings(
        UrlSource("REDIS_URL", InvalidSetting, redis_server.redis_url("app")), "rewound", timeout_seconds=5
    )
    with DataAccess(database, cache) as data:
        data.users.update(structs.replace(data.users.get(user_id), username="renamed"))
        assert data.users.get(user_id).username == "renamed"
    backed_up.sql("DELETE FROM groundwork.users WHERE username = 'kept-and-in-the-clear'")
    backed_up.server.passwords["app_a"] = "rotated-since"
    backed_up.apply_roles(backed_up.site.postgres)
    # Its WAL is only in an incomplete segment of the old data, which the restore deletes.
    backed_up.archived()
    backed_up.sql("ALTER SYSTEM SET archive_command = '/bin/false'; SELECT pg_reload_conf();")
    late = backed_up.note("later")
    left = backed_up.contents().history.timeline
    docker("kill", backed_up.site.postgres)
    restored = backed_up.restore(moment)
    database = DatabaseSettings(
        UrlSource("DATABASE_URL", InvalidSetting, backed_up.server.database_url("app_a")), pool_size=2
    )
    return Rewound(restored, moment, late, left, user_id, cache, database)


@promise("a restore brings back what was deleted and takes back what came later")
def test_a_restore_recovers_deleted_rows_and_removes_later_ones(
    backed_up: BackedUp, rewound: Rewound
) -> None:
    notes = backed_up.notes()
    assert {"kept-and-in-the-clear", "before"} <= notes
    assert not {"later", "renamed"} & notes
    assert rewound.restored.newest_commit is not None
    assert rewound.restored.newest_commit <= rewound.moment
    assert backed_up.flushes == 1
    assert backed_up.in_volume("ls /data").split() == ["15"]


def test_roles_fit_the_stack_after_a_restore_to_before_a_rotation(
    backed_up: BackedUp, rewound: Rewound
) -> None:
    with psycopg.connect(backed_up.server.database_url("app_a")) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app_a",)


@promise("the cache serves nothing newer than the restored rows")
def test_the_cache_serves_nothing_newer_than_the_restored_rows(
    rewound: Rewound, redis_server: Server
) -> None:
    with DataAccess(rewound.database, rewound.cache) as data:
        # The control: without a flush the cache serves a row that no longer exists.
        assert data.users.get(rewound.user_id).username == "renamed"
        post_restore.flush_cache("dev", redis_server.redis_url("ops"), [redis_server.container], print)
        assert data.users.get(rewound.user_id).username == "before"


def test_after_a_restore_a_full_backup_on_the_new_timeline_is_due(
    backed_up: BackedUp, rewound: Rewound
) -> None:
    backed_up.note("after-the-restore")
    backed_up.archived()
    assert backed_up.contents().history.timeline == rewound.restored.timeline > rewound.left
    assert backed_up.backup().kind == "full"


def test_a_backup_archives_the_history_that_the_repository_lacks(
    backed_up: BackedUp, rewound: Rewound
) -> None:
    # As after backups were turned on for a cluster that had failed over. Postgres does not archive the file again.
    backed_up.in_volume("rm /repo/archive/groundwork/*/$1.history", f"{rewound.restored.timeline:08X}")
    with pytest.raises(
        BackupError,
        match=f"lacks the history of timeline {rewound.restored.timeline}; run `groundwork backup`",
    ):
        backed_up.contents()
    backed_up.backup("incr")
    assert backed_up.contents().history.timeline == rewound.restored.timeline


@promise("a time on a timeline that an earlier restore left can be restored")
def test_what_an_earlier_restore_left_behind_can_be_restored_along_its_timeline(
    backed_up: BackedUp, rewound: Rewound
) -> None:
    # Only a segment of the new timeline shows when it began.
    backed_up.archived()
    with pytest.raises(OpsError, match=f"pass --timeline {rewound.left} for the data before") as refused:
        backed_up.restore(rewound.late)
    assert refused.value.exit_code == Exit.USAGE
    backed_up.restore(rewound.late, timeline=rewound.left)
    assert {"later", "renamed"} <= backed_up.notes()


def test_the_end_of_the_wal_is_found_inside_its_last_segment(backed_up: BackedUp) -> None:
    message = "SELECT pg_logical_emit_message(true, 'tick', '') AS lsn"
    position, name = backed_up.sql(f"SELECT lsn, pg_walfile_name(lsn) FROM ({message}) AS each").split("|")
    segment = Segment.parse(name)
    assert segment is not None
    offset = parse_lsn(position) - segment.first_byte
    script = """
        mkdir -p /data/ends/long/pg_wal /data/ends/short/pg_wal
        cp "/data/15/pg_wal/$1" /data/ends/long/pg_wal
        head -c "$2" "/data/15/pg_wal/$1" > "/data/ends/short/pg_wal/$1"
        truncate --size=16M "/data/ends/short/pg_wal/$1"
    """
    backed_up.in_volume(script, name, str(offset))
    bench = Workbench(backed_up.bench)
    short, long = (last_wal._end(bench, f"/data/ends/{each}", segment) for each in ("short", "long"))
    backed_up.in_volume("rm -r /data/ends")
    assert segment.first_byte < short < parse_lsn(position) <= long


@promise("a restore loses no commit of a server that was stopped or killed")
def test_a_restore_of_the_latest_state_has_the_last_commit(backed_up: BackedUp) -> None:
    backed_up.note("the-very-last")
    backed_up.restore(None)
    assert "the-very-last" in backed_up.notes()


@promise("a restore loses no commit of a server that was stopped or killed")
@pytest.mark.parametrize("target", ["latest", "now"] if IS_FULL else ["now"])
def test_a_restore_has_what_a_killed_server_had_not_archived(backed_up: BackedUp, target: str) -> None:
    backed_up.archived()
    backed_up.sql("ALTER SYSTEM SET archive_command = '/bin/false'; SELECT pg_reload_conf();")
    backed_up.note(f"never-archived-{target}")
    docker("kill", backed_up.site.postgres)
    if target == "latest":
        backed_up.restore(None)
    else:
        # After the last commit. A timeline that is named explicitly may be the newest one.
        backed_up.restore(datetime.now(UTC), timeline=backed_up.contents().history.timeline)
        assert "nothing was committed between the end of the WAL and the requested time" in backed_up.said
    assert f"never-archived-{target}" in backed_up.notes()
    # The WAL from the old data is now in the archive, so that later restores can use it.
    assert backed_up.contents().missing() == []
    backed_up.sql("ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf();")


@promise("a lost data volume is restored from the backup repository")
def test_a_lost_data_volume_is_restored_from_the_repository(backed_up: BackedUp) -> None:
    backed_up.note("before-the-loss")
    docker("stop", backed_up.site.postgres)
    late = datetime.now(UTC)
    backed_up.in_volume("rm -rf /data/15")
    docker("start", backed_up.site.postgres)
    wait_until(backed_up.server.answers)
    # The volume now has a new, empty cluster, which must not be mixed with the old one's backups.
    with pytest.raises(BackupError, match="another cluster than the running one"):
        backed_up.backup("full")
    # Whether the lost server had committed more by then is not known.
    with pytest.raises(BackupError, match=r"the WAL ends at 20.* or to LATEST; the previous data is back"):
        backed_up.restore(late)
    backed_up.restore(None)
    assert "before-the-loss" in backed_up.notes()
    assert any(line.startswith("warning: the WAL ends at 20") for line in backed_up.said)
    backed_up.backup("full")


@promise("a time outside the restore window is refused before anything changes")
def test_a_moment_outside_the_window_is_refused_before_anything_is_touched(backed_up: BackedUp) -> None:
    since = backed_up.started_at()
    for age in (timedelta(days=400), timedelta(days=-1)):
        with in_case(age), pytest.raises(OutsideWindow, match=r"restorable: 20.*to now"):
            backed_up.restore(datetime.now(UTC) - age)
    assert backed_up.started_at() == since


@promise("damage ends a restore or drill with a reason, and never with missing data")
def test_wal_that_is_missing_at_the_end_of_a_restore_leaves_the_old_data_serving(backed_up: BackedUp) -> None:
    backed_up.backup("full")
    backed_up.note("in-missing-wal")
    missing = backed_up.noted_in
    backed_up.archived()
    backed_up.note("still-there")
    backed_up.archived()
    moment = backed_up.note("after-missing-wal")
    backed_up.archived()
    # The server does not need the file after a checkpoint.
    backed_up.server.psql("CHECKPOINT")
    backed_up.in_volume(
        'mkdir /repo/aside; mv /repo/archive/groundwork/*/*/"$1"-* /repo/aside; rm -f "/data/15/pg_wal/$1"',
        missing,
    )
    try:
        with pytest.raises(OutsideWindow, match="restorable: "):
            backed_up.restore(moment)
        with pytest.raises(OutsideWindow, match="WAL is missing after"):
            backed_up.restore(None)
        assert {"still-there", "after-missing-wal"} <= backed_up.notes()
    finally:
        backed_up.in_volume(
            "cd /repo/aside; for f in *; do"
            ' mv "$f" /repo/archive/groundwork/*/"$(echo "$f" | cut -c1-16)"/; done; rmdir /repo/aside'
        )
    backed_up.restore(moment)
    assert "after-missing-wal" in backed_up.notes()


@promise("a gap in the WAL splits the restore window")
def test_the_end_of_a_window_before_a_gap_can_be_restored(backed_up: BackedUp) -> None:
    backed_up.backup("full")
    for name in ("in-window", "later-in-window", "last-in-window", "in-gap", "after-gap"):
        backed_up.note(name)
        if name == "in-gap":
            gap = backed_up.noted_in
        backed_up.archived()
    # The server does not need the file after a checkpoint.
    backed_up.server.psql("CHECKPOINT")
    backed_up.in_volume('rm /repo/archive/groundwork/*/*/"$1"-*; rm -f "/data/15/pg_wal/$1"', gap)
    end = max(window.end for window in backed_up.contents().windows() if window.end is not None)
    restored = backed_up.restore(end)
    assert restored.newest_commit is None or restored.newest_commit <= end
    assert not {"in-gap", "after-gap"} & backed_up.notes()


def test_missing_wal_that_the_server_still_has_is_archived(backed_up: BackedUp) -> None:
    """As after a failover, when the old primary had not archived everything."""
    backed_up.backup()
    for act in (lambda: str(backed_up.backup()), lambda: str(backed_up.restore(None))):
        # On a slow machine, a checkpoint would remove the file before the end of this test. A restore drops the slot.
        backed_up.sql("SELECT pg_create_physical_replication_slot('keeps', true)")
        backed_up.note("missing-wal")
        lost = backed_up.noted_in
        backed_up.archived()
        backed_up.note("later-wal")
        backed_up.archived()
        backed_up.in_volume('rm /repo/archive/groundwork/*/*/"$1"-*', lost)
        assert [str(segment) for segment in backed_up.contents().missing()] == [lost]
        planned = plan(backed_up.site, Target(None))
        assert planned is not None
        act()
        assert backed_up.contents().missing() == []
        assert f"the first is {lost}" in "".join(backed_up.said)
        backed_up.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    assert "missing-wal" in backed_up.notes()


@promise("two backups or restores at once are refused")
def test_two_operations_at_once_are_refused(backed_up: BackedUp) -> None:
    with backed_up.site.exclusive():
        with pytest.raises(OpsError, match="restore or drill of process") as refused:
            backed_up.backup()
    assert refused.value.exit_code == Exit.LOCKED


def test_a_server_that_does_not_run_cannot_be_backed_up_and_its_backups_can_be_listed(
    backed_up: BackedUp,
) -> None:
    docker("stop", backed_up.site.postgres)
    with pytest.raises(OpsError, match="does not run") as refused:
        backed_up.backup()
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert backed_up.contents().windows()
    docker("start", backed_up.site.postgres)


def test_a_redis_that_does_not_run_needs_no_flush(redis_server: Server) -> None:
    post_restore.flush_cache("dev", redis_server.redis_url("ops"), ["gw-test-no-such-container"], print)


@promise("the cache serves nothing newer than the restored rows")
def test_a_redis_that_cannot_be_reached_is_stopped_because_its_restart_invalidates_all_entries(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_restore, "_TRIES", 1)
    said: list[str] = []
    with containers.redis_server() as unreachable:
        url = unreachable.redis_url("ops").replace("ops:", "ops:another-")
        post_restore.flush_cache(
            "dev", url, [unreachable.container, "gw-test-no-such-container"], said.append
        )
        assert [found["State"]["Running"] for found in inspect("container", unreachable.container)] == [False]
    assert unreachable.container in said[0]
    assert "`groundwork up --stack dev`" in said[0]


@promise("a backup that copies damaged pages fails, and expires no other backup")
def test_a_backup_with_a_damaged_page_fails_names_the_table_and_keeps_older_backups(
    backed_up: BackedUp,
) -> None:
    _expire_again(backed_up)
    backed_up.backup("full")
    sound = backed_up.backup("full").label
    before = _full(backed_up)
    backed_up.sql("CREATE TABLE groundwork.damaged AS SELECT generate_series(1, 5000) AS number")
    file = backed_up.sql("SELECT pg_relation_filepath('groundwork.damaged')")
    docker("stop", backed_up.site.postgres)
    backed_up.in_volume('printf x | dd of="/data/15/$1" bs=1 seek=12000 conv=notrunc status=none', file)
    docker("start", backed_up.site.postgres)
    wait_until(backed_up.server.answers, START_SECONDS)
    with pytest.raises(
        BackupError, match=f"groundwork.damaged in database groundwork \\({file}\\)"
    ) as failed:
        backed_up.backup("full")
    assert failed.value.exit_code == Exit.MISMATCH
    # The retention is two full backups.
    assert _full(backed_up)[:-1] == before
    found = backed_up.contents()
    assert found.backups[-1].is_damaged
    assert found.backup_for(None, datetime.now(UTC)).label == sound
    backed_up.sql("DROP TABLE groundwork.damaged")
    # The first backup without damaged pages does not count the damaged one.
    backed_up.backup("full")
    assert sound in _full(backed_up)


@promise("for 7 days after a restore, no backup expires")
def test_no_backup_expires_for_days_after_a_restore(backed_up: BackedUp) -> None:
    markers.write(backed_up.site.postgres, markers.RESTORED)
    backed_up.backup("full")
    before = _full(backed_up)
    backed_up.backup("full")
    assert _full(backed_up)[:-1] == before
    assert "keeping all backups until 20" in "".join(backed_up.said)
    _expire_again(backed_up)
    backed_up.backup("incr")
    # The retention is two full backups.
    assert len(_full(backed_up)) == 2


def _expire_again(backed_up: BackedUp) -> None:
    """Let the restores be so long ago that backups expire."""
    backed_up.server.psql("UPDATE groundwork_backup.marker SET written_at = written_at - interval '7 days'")


def _full(backed_up: BackedUp) -> list[str]:
    return [b.label for b in backed_up.contents().backups if b.kind == "full"]
