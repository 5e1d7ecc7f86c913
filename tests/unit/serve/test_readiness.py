"""What the readiness check says about replicas. A live server is in tests/integration/serve."""

from __future__ import annotations

import pytest

from db.rows import Replication
from ops.serve.readiness import Degraded, count_hosts, replication_problem


@pytest.mark.parametrize(
    ("connected", "writes_wait", "expected"),
    [
        (2, False, None),
        (1, False, Degraded("1 of 2 replicas are connected to the primary")),
        (0, True, "no replica is synchronous, so every write waits; reads work"),
        # Replicas that are not synchronous do not help.
        (2, True, "no replica is synchronous, so every write waits; reads work"),
    ],
)
def test_missing_replicas_degrade_and_waiting_writes_are_a_problem(
    connected: int, writes_wait: bool, expected: object
) -> None:
    assert replication_problem(Replication(connected, writes_wait), expected=2) == expected


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://app_a:x@localhost:1/groundwork", 1),
        ("postgresql://app_a:x@a:1,b:2,c:3/groundwork?target_session_attrs=primary", 3),
        ("host=a,b dbname=groundwork", 2),
        ("postgresql:///groundwork", 1),
        # The check of Postgres reports it.
        ("postgresql://app_a:x@[broken/groundwork", 1),
    ],
)
def test_replicas_are_expected_for_each_further_host_of_the_url(url: str, hosts: int) -> None:
    assert count_hosts(url) == hosts
