"""The check of Redis's replicas."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ops.doctor.check_result import CheckStatus
from ops.doctor.redis_health import replicas
from ops.errors import OpsError

PRIMARY = {"role": "master", "min_slaves_good_slaves": 2}
REPLICA = {"role": "slave", "master_link_status": "up"}


def examined(*servers: Any, expected: int = 2) -> Any:
    found = {f"localhost:{n}": server for n, server in enumerate(servers)}
    return SimpleNamespace(
        stack=SimpleNamespace(expected={"redisReplicas": expected} if expected else {}),
        redis=SimpleNamespace(replication=lambda: found),
    )


@pytest.mark.parametrize(
    ("servers", "status", "text"),
    [
        ([REPLICA, PRIMARY, REPLICA], CheckStatus.OK, "the primary is localhost:1; 2 replicas follow it"),
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
    ],
)
def test_the_roles_of_the_servers_are_checked(servers: list[Any], status: CheckStatus, text: str) -> None:
    result = replicas(examined(*servers))
    assert result.status is status
    assert text in result.text
    assert len(result.details) == len(servers)


def test_a_stack_without_replicas_is_not_checked() -> None:
    assert replicas(examined(PRIMARY, expected=0)).status is CheckStatus.SKIPPED
