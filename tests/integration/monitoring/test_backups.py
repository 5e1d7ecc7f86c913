"""The exporter's metrics of a backup repository, as role monitor, compared with what was done to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from infra.docker.engine import docker
from infra.spec import roles
from tests.backed_up import BackedUp, backed_up_server
from tests.containers import build_image, wait_until
from tests.integration.monitoring.measured import free_port, postgres_exporter, scrape

Metric = Callable[[str], float]


@pytest.fixture(scope="module")
def backed_up(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackedUp]:
    """A server that archives, with an empty repository. Its queue holds four WAL files."""
    folder = tmp_path_factory.mktemp("backup")
    with backed_up_server(folder, queue_max_bytes=64 * 1024**2) as server:
        yield server


@pytest.fixture(scope="module")
def metric(backed_up: BackedUp) -> Iterator[Metric]:
    """metric(name) scrapes now, and returns the value of a metric, or nan without one."""
    port = free_port()
    with ExitStack() as stack:
        postgres_exporter(stack, build_image("monitoring"), port, backed_up.server, roles.DATABASE)

        def value(name: str) -> float:
            found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", scrape(port), re.MULTILINE)
            return float(found[1]) if found else float("nan")

        wait_until(lambda: value("pg_up") == 1, 90)
        yield value


def test_a_repository_without_a_backup_has_none(metric: Metric) -> None:
    assert metric("pg_archiving_enabled") == 1
    assert metric("pg_backup_count") == 0
    assert metric("pg_backup_newest_timestamp_seconds") == 0
    assert metric("pg_backup_newest_full_timestamp_seconds") == 0


def test_the_end_times_of_the_newest_backup_and_full_backup_are_exported(
    backed_up: BackedUp, metric: Metric
) -> None:
    full, incremental = backed_up.backup(), backed_up.backup()
    assert (full.kind, incremental.kind) == ("full", "incr")
    assert metric("pg_backup_count") == 2
    # pgBackRest's times are whole seconds, and it writes the manifest after the last file.
    assert metric("pg_backup_newest_full_timestamp_seconds") == pytest.approx(full.stop.timestamp(), abs=30)
    assert metric("pg_backup_newest_timestamp_seconds") == pytest.approx(incremental.stop.timestamp(), abs=30)
    assert metric("pg_backup_newest_timestamp_seconds") > metric("pg_backup_newest_full_timestamp_seconds")


def test_a_backup_that_was_not_finished_does_not_count(backed_up: BackedUp, metric: Metric) -> None:
    # As after a kill: pgBackRest writes the manifest last.
    folder = "20990101-000000F"
    backed_up.in_volume('mkdir "/repo/backup/groundwork/$1"', folder)
    assert metric("pg_backup_count") == 2
    backed_up.in_volume('touch "/repo/backup/groundwork/$1/backup.manifest"', folder)
    assert metric("pg_backup_count") == 3
    backed_up.in_volume('rm -r "/repo/backup/groundwork/$1"', folder)


def test_wal_that_waits_is_counted_and_the_failure_dated(backed_up: BackedUp, metric: Metric) -> None:
    assert metric("pg_archiving_waiting_files") <= 1
    backed_up.sql("ALTER SYSTEM SET archive_command = '/bin/false'; SELECT pg_reload_conf();")
    try:
        for text in ("one", "two", "three"):
            backed_up.note(text)
            backed_up.sql("SELECT pg_switch_wal()")
        wait_until(lambda: metric("pg_archiving_waiting_files") >= 3, 90)
        failed = "pg_archiving_last_failed_timestamp_seconds"
        wait_until(lambda: metric(failed) > metric("pg_archiving_last_archived_timestamp_seconds"), 90)
    finally:
        backed_up.sql("ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf();")


def test_dropped_wal_is_reported_although_postgres_believes_it_archived(
    backed_up: BackedUp, metric: Metric
) -> None:
    has_it, archived = "pg_backup_has_last_archived_wal", "pg_archiving_last_archived_timestamp_seconds"
    wait_until(lambda: metric("pg_archiving_waiting_files") <= 1, 90)
    backed_up.note("well")
    backed_up.archived()
    wait_until(lambda: metric(has_it) == 1, 90)
    backed_up.in_volume("chmod 0500 /repo/archive/groundwork/*/*")
    try:
        before = metric(archived)
        for text in map(str, range(8)):
            backed_up.note(text)
            backed_up.sql("SELECT pg_switch_wal()")
        wait_until(lambda: metric(has_it) == 0, 120)
        # Postgres reports a successful archiving although none was possible. (It also reports failures, of the files
        # within the queue's limit, so which of the two times is later means nothing.)
        assert metric(archived) > before
    finally:
        backed_up.in_volume("chmod 0750 /repo/archive/groundwork/*/*")
    backed_up.note("well again")
    backed_up.archived()
    wait_until(lambda: metric(has_it) == 1, 90)


def test_a_deleted_repository_is_reported_as_one_without_a_backup(
    backed_up: BackedUp, metric: Metric
) -> None:
    """This test must be the last of the module, because it deletes the repository."""
    docker("exec", backed_up.site.postgres, "sh", "-c", "rm -rf /var/lib/pgbackrest/*")
    assert metric("pg_backup_count") == 0
