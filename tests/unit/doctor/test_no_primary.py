"""What `doctor` and `top` show while no server of Postgres is the primary."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.outputs import database_url
from ops.doctor import access
from ops.doctor.check_result import CheckResult, CheckStatus
from ops.doctor.examination import Check, CheckedServer, Examination
from ops.doctor.replicas import replicas
from ops.doctor.runner import examine
from ops.doctor.thresholds import Thresholds
from ops.servers.errors import ServerUnreachable
from ops.servers.monitored_postgres import MonitoredPostgres
from ops.servers.monitored_stack import MonitoredStack
from ops.stack.cluster import Member
from ops.top.sources import PostgresSource
from ops.top.summary import postgres
from ops.top.views import servers
from ops.top.watch import Pace, Watch
from tests.unit.db.fake_server import fake_servers
from tests.unit.top.snapshots import snapshot


def stack(*ports: int) -> MonitoredStack:
    first, *others = (("127.0.0.1", port) for port in ports)
    url = database_url(
        login="monitor", password="x", host=first[0], port=first[1], ca_file="ca.crt", others=others
    )
    return MonitoredStack(
        name="dev",
        postgres_address=first,
        redis_addresses=[],
        ca_file=Path("ca.crt"),
        expected={},
        database_url=url.replace("verify-full", "disable"),
        redis_url="",
        ops_redis_url="",
    )


@pytest.fixture
def lost_primary() -> Any:
    """A stack of a stopped server and two replicas."""
    with fake_servers("primary", "replica", "replica") as found:
        ports = [server.port for server in found]
        found[0].close()
        yield stack(*ports)


def test_doctor_has_one_line_and_one_for_each_server(lost_primary: MonitoredStack) -> None:
    database = MonitoredPostgres(lost_primary)

    def reach(_: Examination) -> CheckResult:
        database.rows("SELECT 1")
        raise AssertionError

    checks = [Check("postgres", CheckedServer.POSTGRES, reach, reaches=True)]
    examination = cast(Examination, SimpleNamespace(stack=lost_primary))
    ((_, found),) = examine(examination, checks, checks)
    assert found.unreachable
    assert found.text == "no primary among postgres, postgres-2, postgres-3"
    first, *others = found.details
    assert first.startswith("postgres: ")
    assert "refused" in first
    assert "127.0.0.1" not in first
    assert others == ["postgres-2: replica", "postgres-3: replica"]


def test_top_shows_the_state_of_each_server(lost_primary: MonitoredStack) -> None:
    watch = Watch(PostgresSource(lost_primary, wants_statements=False), Pace(0.0))
    watch.start(rounds=1)
    watch.join()
    found = postgres(watch.seen, "?", 2, now=0.0)
    assert found.reason == "no primary among postgres, postgres-2, postgres-3"
    shown = servers(snapshot(is_up=False, version=None, reason=found.reason, servers=found.servers))
    assert shown[0][-1] == found.reason
    assert [row[0] for row in shown[1:4]] == ["  postgres", "  postgres-2", "  postgres-3"]
    assert [row[-1] for row in shown[2:4]] == ["replica", "replica"]


def test_a_single_server_is_reported_with_its_address() -> None:
    with fake_servers("primary") as (server,):
        port = server.port
        server.close()
        with pytest.raises(ServerUnreachable, match=r"cannot reach Postgres at 127\.0\.0\.1:\d+: ") as caught:
            MonitoredPostgres(stack(port)).rows("SELECT 1")
    assert not caught.value.servers


def test_a_reason_of_several_checks_of_the_access_service_is_shown_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = {"ok": False, "reason": "no connection\nto Postgres"}
    checks = {"postgres": lost, "outbox": lost, "redis": {"ok": True, "reason": None}}

    monkeypatch.setattr(access, "fetch", lambda *_: (503, json.dumps({"checks": checks}).encode()))
    examination = cast(Examination, SimpleNamespace(stack=SimpleNamespace(access_url="http://access")))
    found = access.readiness(examination)
    assert (found.text, found.details) == ("not ready: postgres, outbox: no connection to Postgres", ())
    checks["redis"] = {"ok": False, "reason": "down"}
    found = access.readiness(examination)
    assert found.details == ("postgres, outbox: no connection to Postgres", "redis: down")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b"Service Unavailable"),
        (200, b"[]"),
        (200, b'{"checks": ["outbox"]}'),
        (200, b'{"checks": {"outbox": 1}}'),
    ],
)
def test_an_answer_without_a_report_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    monkeypatch.setattr(access, "fetch", lambda *_: (status, body))
    examination = cast(Examination, SimpleNamespace(stack=SimpleNamespace(access_url="http://access")))
    found = access.readiness(examination)
    assert found.status is CheckStatus.FAIL
    assert found.text == f"http://access/readyz answered {status} without a report"


def test_the_list_of_problems_does_not_repeat_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [Member(name, name, "", "stopped") for name in ("postgres", "postgres-2")]
    monkeypatch.setattr("ops.stack.cluster.Cluster.members", lambda _: members)
    found = replicas(
        cast(
            Examination,
            SimpleNamespace(
                stack=SimpleNamespace(name="dev", members={"postgres": "postgres"}), thresholds=Thresholds()
            ),
        )
    )
    assert found.text == "there is no primary: nothing can be written, and 2 more"
    assert found.details == ("postgres is stopped", "postgres-2 is stopped")
