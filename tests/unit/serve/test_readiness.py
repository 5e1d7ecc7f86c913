"""What the readiness check says about replicas. A live server is in tests/integration/serve."""

from __future__ import annotations

from db.rows import Replication
from ops.serve.readiness import Degraded, count_hosts, replication_problem
from tests.cases import in_case


def test_missing_replicas_degrade_and_waiting_writes_are_a_problem() -> None:
    cases: list[tuple[int, bool, object]] = [
        (2, False, None),
        (1, False, Degraded("1 of 2 replicas are connected to the primary")),
        (0, True, "no replica is synchronous, so every write waits; reads work"),
        # Replicas that are not synchronous do not help.
        (2, True, "no replica is synchronous, so every write waits; reads work"),
    ]
    for connected, writes_wait, expected in cases:
        with in_case(connected, writes_wait, expected):
            assert replication_problem(Replication(connected, writes_wait), expected=2) == expected


def test_replicas_are_expected_for_each_further_host_of_the_url() -> None:
    cases: list[tuple[str, int]] = [
        ("postgresql://app_a:x@localhost:1/groundwork", 1),
        ("postgresql://app_a:x@a:1,b:2,c:3/groundwork?target_session_attrs=primary", 3),
        ("host=a,b dbname=groundwork", 2),
        ("postgresql:///groundwork", 1),
        # The check of Postgres reports it.
        ("postgresql://app_a:x@[broken/groundwork", 1),
    ]
    for url, hosts in cases:
        with in_case(url, hosts):
            assert count_hosts(url) == hosts
