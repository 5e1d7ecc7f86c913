"""Replicas and fence match the stack's outputs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.live.reached import Reached
from tests.promises import promise


def promised(reached: Reached, server: str) -> dict[str, Any]:
    found: dict[str, Any] = reached.expected["highAvailability"][server]
    return found


@promise("a stack's servers match its outputs")
def test_every_replica_of_postgres_receives_changes(reached: Reached) -> None:
    with reached.postgres("monitor") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        ).fetchone()
    assert row is not None
    # RDS's standby is not a replica of Postgres. On AWS another tool may read changes too.
    assert row[0] >= promised(reached, "postgres")["replicas"]


@promise("a stack's servers match its outputs")
def test_commits_wait_for_a_replica_if_the_stack_loses_nothing(reached: Reached) -> None:
    if reached.is_on_aws:
        pytest.skip("RDS's standby is below Postgres, which does not show it")
    with reached.postgres("monitor") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"
        ).fetchone()
    assert row is not None
    assert (row[0] > 0) is promised(reached, "postgres")["losesNothing"]


@promise("a stack's servers match its outputs")
def test_redis_is_fenced_as_promised(reached: Reached) -> None:
    wanted = promised(reached, "redis")
    info: Any = reached.redis("monitor").info("replication")
    # Redis has this field only if min-replicas-to-write and min-replicas-max-lag are set.
    assert ("min_slaves_good_slaves" in info) is wanted["isFenced"]
    if info["role"] == "master":
        assert info["connected_slaves"] == wanted["replicas"]
