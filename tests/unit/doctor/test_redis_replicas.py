"""The check of Redis's replicas."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from infra.outputs import address_of, redis_url
from infra.spec.high_availability import HighAvailability
from infra.spec.redis_replication import SERVER_NAMES
from ops.doctor.check_result import CheckStatus
from ops.doctor.redis_health import replicas
from ops.errors import OpsError
from ops.servers.monitored_stack import MonitoredStack
from ops.servers.redis_primary import named_urls
from tests.cases import in_case
from tests.promises import promise

PRIMARY = {"role": "master", "min_slaves_good_slaves": 2}
REPLICA = {"role": "slave", "master_link_status": "up"}


def examined(*servers: Any, expected: int = 2) -> Any:
    names = SERVER_NAMES if len(servers) > 1 else ["localhost:0"]
    found = dict(zip(names, servers, strict=True))
    return SimpleNamespace(
        stack=SimpleNamespace(redis_replicas=expected),
        redis=SimpleNamespace(replication=lambda: found),
    )


def test_the_roles_of_the_servers_are_checked() -> None:
    cases: list[tuple[list[Any], CheckStatus, str]] = [
        ([REPLICA, PRIMARY, REPLICA], CheckStatus.OK, "the primary is redis-2, followed by 2 replicas"),
        (
            [OpsError("refused"), PRIMARY | {"min_slaves_good_slaves": 1}, REPLICA],
            CheckStatus.WARN,
            "1 of 2 replicas follow it",
        ),
        ([REPLICA, PRIMARY, REPLICA | {"master_link_status": "down"}], CheckStatus.WARN, "1 of 2 replicas"),
        (
            [PRIMARY | {"min_slaves_good_slaves": 0}, REPLICA, REPLICA],
            CheckStatus.FAIL,
            "0 servers accept writes",
        ),
        ([REPLICA, REPLICA, OpsError("refused")], CheckStatus.FAIL, "0 servers accept writes"),
        ([PRIMARY, PRIMARY, REPLICA], CheckStatus.FAIL, "2 servers accept writes"),
    ]
    for servers, status, text in cases:
        with in_case(servers, status, text):
            result = replicas(examined(*servers))
            assert result.status is status
            assert text in result.text
            assert len(result.details) == len(servers)


def followed(*states: str) -> dict[str, Any]:
    """Return what the primary on AWS reports, with a replica in each of these states."""
    nodes = {
        f"slave{n}": {"ip": f"10.0.0.{n}", "port": 6379, "state": state, "offset": 90, "lag": 1}
        for n, state in enumerate(states)
    }
    return {"role": "master", "connected_slaves": len(states), "master_repl_offset": 100, **nodes}


@promise("doctor checks Redis's replicas on both targets")
def test_on_aws_the_primary_reports_its_replicas() -> None:
    cases: list[tuple[Any, CheckStatus, str]] = [
        (followed("online", "online"), CheckStatus.OK, "the primary is localhost:0, followed by 2 replicas"),
        (followed("online", "wait_bgsave"), CheckStatus.WARN, "1 of 2 replicas follow it"),
        (followed("online"), CheckStatus.WARN, "1 of 2 replicas follow it"),
        (followed(), CheckStatus.WARN, "0 of 2 replicas follow it"),
        (REPLICA, CheckStatus.FAIL, "localhost:0 is a replica, and should be the primary"),
        (OpsError("refused"), CheckStatus.FAIL, "localhost:0 does not answer: refused"),
    ]
    for endpoint, status, text in cases:
        with in_case(endpoint, status, text):
            result = replicas(examined(endpoint))
            assert result.status is status
            assert text in result.text
            assert "groundwork up" not in result.advice
            assert len(result.details) == (
                endpoint.get("connected_slaves", 0) if isinstance(endpoint, dict) else 0
            )


def test_the_number_of_replicas_is_that_of_the_outputs() -> None:
    cases: list[tuple[dict[str, Any], int, int]] = [
        (
            {"highAvailability": HighAvailability.on_docker(postgres_replicas=0, redis_replicas=2).as_json()},
            3,
            2,
        ),
        (
            {
                "highAvailability": HighAvailability.on_aws(
                    postgres_replicas=0, has_standby=True, redis_nodes=3, is_fenced=False
                ).as_json()
            },
            1,
            2,
        ),
        # Stacks in Docker that were deployed before the output existed.
        ({}, 3, 2),
        ({}, 1, 0),
    ]
    for expected, servers, count in cases:
        with in_case(expected, servers, count):
            endpoints = [("redis", 6379 + n) for n in range(servers)]
            stack = MonitoredStack(
                name="dev",
                postgres_address=("localhost", 1),
                redis_addresses=endpoints,
                ca_file=Path("ca.crt"),
                expected=expected,
                database_url="",
                redis_url=redis_url(user="monitor", password="x", servers=endpoints, ca_file="ca.crt"),
                ops_redis_url="",
            )
            assert stack.redis_replicas == count


def test_a_stack_without_replicas_is_not_checked() -> None:
    assert replicas(examined(PRIMARY, expected=0)).status is CheckStatus.SKIPPED


def test_one_replica_is_not_counted_as_several() -> None:
    result = replicas(examined(PRIMARY | {"min_slaves_good_slaves": 1}, REPLICA, OpsError("refused")))
    assert result.details[0] == "redis is a primary, followed by 1 replica"
    assert replicas(examined(followed("online"), expected=1)).text.endswith("followed by 1 replica")


def test_servers_are_named_as_status_names_them() -> None:
    urls = redis_url(
        user="monitor", password="x", servers=[("localhost", n) for n in (1, 2, 3)], ca_file="ca"
    )
    assert {name: address_of(url) for name, url in named_urls(urls).items()} == {
        "redis": "localhost:1",
        "redis-2": "localhost:2",
        "redis-3": "localhost:3",
    }
    one = redis_url(user="monitor", password="x", servers=[("cache.example.com", 6379)], ca_file="ca")
    assert named_urls(one) == {"cache.example.com:6379": one}
