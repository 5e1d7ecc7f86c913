"""A restore of a cluster: to a point in time across failovers, abandoned, killed, and completed."""

from __future__ import annotations

import json

import pytest

from infra.docker.engine import docker
from infra.spec.backup import PGDATA
from infra.spec.postgres_cluster import MEMBERS
from tests.infra.cluster.conftest import LiveCluster
from tests.infra.cluster.writers import TABLE
from tests.promises import promise
from tests.scale import IS_FULL

_STEPS = [
    "stopping postgres",
    "restoring the files",
    "replaying WAL",
    "deleting the cluster's state",
    "invalidating the cache",
    "starting Postgres",
    "copying the restored data to postgres-3",
    "removing the old data",
]


def _rows(cluster: LiveCluster) -> set[str]:
    return set(cluster.sql(f"SELECT number FROM groundwork.{TABLE}").split())


def _moment(cluster: LiveCluster) -> str:
    """Return a time between all commits so far and a later one."""
    moment = cluster.sql(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    )
    cluster.sql("SELECT pg_logical_emit_message(true, 'tick', '')")
    return moment


def _write(cluster: LiveCluster) -> str:
    return cluster.sql(
        f"INSERT INTO groundwork.{TABLE} SELECT min(number) - 1 FROM groundwork.{TABLE} RETURNING number"
    )


@promise("a restore of a cluster can reach any time, also across failovers")
@promise(
    "the same command completes a restore of a cluster that was killed at any step, or it can be abandoned"
)
def test_a_killed_restore_to_a_time_on_the_third_timeline_is_completed(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    (first, *_) = json.loads(cluster.checkout.succeed("backup", "list", "--json"))["backups"]
    # Each failover of the tests before began a timeline. This test may also run alone.
    while max(member["TL"] for member in cluster.members()) - int(first["walStart"][:8], 16) < 2:
        cluster.checkout.succeed("cluster", "switchover", "--yes")
        cluster.wait_until_whole()
    before, moment = _rows(cluster), _moment(cluster)
    _write(cluster)
    _kill_restore(cluster, "copying the restored data to postgres-2", moment)
    refused = cluster.checkout.run("up")
    assert (refused.returncode, "restore of stack 'dev' is in progress" in refused.stderr) == (5, True)
    cluster.checkout.succeed("restore", "--to", moment, "--yes")
    assert _rows(cluster) == before
    _require_whole(cluster)


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: restores of a single server are abandoned at every run")
@promise(
    "the same command completes a restore of a cluster that was killed at any step, or it can be abandoned"
)
@pytest.mark.parametrize("step", ["stopping postgres-2", "exchanging the folders", "replaying WAL"])
def test_an_abandoned_restore_changes_nothing(cluster: LiveCluster, step: str) -> None:
    cluster.wait_until_whole()
    moment = _moment(cluster)
    _write(cluster)
    rows = _rows(cluster)
    _kill_restore(cluster, step, moment)
    cluster.checkout.succeed("restore", "--abandon")
    cluster.checkout.succeed("up")
    assert _rows(cluster) == rows
    _require_whole(cluster)


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: the restore above is killed at one step")
@promise(
    "the same command completes a restore of a cluster that was killed at any step, or it can be abandoned"
)
@pytest.mark.parametrize("step", _STEPS)
def test_a_restore_killed_at_a_step_is_completed_by_the_next(cluster: LiveCluster, step: str) -> None:
    cluster.wait_until_whole()
    cluster.checkout.succeed("backup")
    before, moment = _rows(cluster), _moment(cluster)
    _write(cluster)
    _kill_restore(cluster, step, moment)
    cluster.checkout.succeed("restore", "--to", moment, "--yes")
    assert _rows(cluster) == before
    _require_whole(cluster)


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: unit tests resume a restore whose data has served")
@promise(
    "the same command completes a restore of a cluster that was killed at any step, or it can be abandoned"
)
def test_a_resumed_restore_keeps_what_another_primary_has_written_since(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    cluster.checkout.succeed("backup")
    before, moment = _rows(cluster), _moment(cluster)
    _write(cluster)
    _kill_restore(cluster, "removing the old data", moment)
    cluster.wait_until_whole()
    docker("kill", cluster.container("postgres"))
    # The control: the first server, on whose data the restore worked, is no longer the primary.
    assert cluster.primary() != cluster.container("postgres")
    written = _write(cluster)
    cluster.checkout.succeed("restore", "--to", moment, "--yes")
    assert _rows(cluster) == before | {written}
    _require_whole(cluster)


@pytest.mark.skipif(
    not IS_FULL, reason="SCALE=full: unit tests choose the WAL, and the restores above use it"
)
@promise("a restore of a cluster loses no acknowledged write, even if all its servers were killed")
def test_a_restore_of_the_latest_state_has_what_killed_servers_had_not_archived(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    # Backups of an earlier timeline are not enough for a restore to the latest state after a restore.
    cluster.checkout.succeed("backup")
    cluster.checkout.succeed("cluster", "switchover", "--yes")
    _write(cluster)
    rows = _rows(cluster)
    docker("kill", *map(cluster.container, MEMBERS))
    cluster.checkout.succeed("restore", "--to", "LATEST", "--yes")
    assert _rows(cluster) == rows
    _require_whole(cluster)


def _kill_restore(cluster: LiveCluster, step: str, moment: str) -> None:
    cluster.checkout.run_until(step, "restore", "--to", moment, "--yes", says_on_stderr=True)


def _require_whole(cluster: LiveCluster) -> None:
    """Check that the cluster accepts writes, that nothing is left of the restore, and that `up` has nothing to do."""
    cluster.wait_until_whole()
    _write(cluster)
    folder = PGDATA.rpartition("/")[0]
    for member in MEMBERS:
        assert docker("exec", cluster.container(member), "ls", folder).split() == ["15"]
    cluster.checkout.succeed("preview", "--expect-no-changes")
