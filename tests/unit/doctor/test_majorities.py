"""The checks of the majorities that a failover needs, and of Postgres's replicas."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from infra.docker import members
from infra.docker.engine import DockerError
from infra.docker.redis_members import RedisMember
from ops.doctor import majorities, replicas
from ops.doctor.check_result import CheckStatus
from ops.doctor.thresholds import Thresholds
from ops.stack import cluster
from tests.promises import promise

STORES, SENTINELS = ("etcd-1", "etcd-2", "etcd-3"), ("sentinel-1", "sentinel-2", "sentinel-3")
MEMBERS = ("postgres", "postgres-2", "postgres-3")
QUORUM = "OK 3 usable Sentinels. Quorum and failover authorization can be reached"
PAUSED = DockerError("`docker exec` failed: container is paused")


def examined(*services: str) -> Any:
    stack = SimpleNamespace(
        name="dev",
        containers={service: f"gw-{service}" for service in services},
        members={member: f"gw-{member}" for member in MEMBERS},
    )
    return SimpleNamespace(stack=stack, thresholds=Thresholds())


@promise("doctor reports lost majorities, replicas that are far behind, and a paused failover")
@pytest.mark.parametrize(
    ("down", "status", "text"),
    [
        ((), CheckStatus.OK, "3 of 3 members answer"),
        (("etcd-2",), CheckStatus.WARN, "2 of 3 members answer; one more failure"),
        (("etcd-1", "etcd-2"), CheckStatus.FAIL, "1 of 3 members answer: no replica of Postgres"),
    ],
)
def test_a_majority_of_etcd_is_needed(
    monkeypatch: pytest.MonkeyPatch, down: tuple[str, ...], status: CheckStatus, text: str
) -> None:
    def docker(_: str, container: str, *__: str, timeout_seconds: float) -> str:
        if container.removeprefix("gw-") in down:
            raise PAUSED
        return "true"

    monkeypatch.setattr(cluster, "docker", docker)
    result = majorities.store_majority(examined(*STORES))
    assert result.status is status
    assert text in result.text
    assert len(result.details) == len(down)
    assert all(f"--service {store}" in result.advice for store in down[:1])


@promise("doctor reports lost majorities, replicas that are far behind, and a paused failover")
@pytest.mark.parametrize(
    ("primaries", "quorum", "status", "text"),
    [
        (["10.0.0.40"] * 3, QUORUM, CheckStatus.OK, "3 of 3 Sentinels"),
        (["10.0.0.40", None, "10.0.0.40"], QUORUM, CheckStatus.WARN, "2 of 3 Sentinels"),
        ([None, None, "10.0.0.40"], QUORUM, CheckStatus.FAIL, "1 of 3 Sentinels"),
        (["10.0.0.40"] * 3, "NOQUORUM 1 usable Sentinels", CheckStatus.FAIL, "0 of 3 Sentinels"),
        (["10.0.0.40", "10.0.0.41", "10.0.0.40"], QUORUM, CheckStatus.WARN, "different primaries"),
    ],
)
def test_a_majority_of_sentinels_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    primaries: list[str | None],
    quorum: str,
    status: CheckStatus,
    text: str,
) -> None:
    named = dict(zip(SENTINELS, primaries, strict=True))

    def ask(sentinel: RedisMember, _: object, command: str) -> str:
        if named[sentinel.name] is None:
            raise PAUSED
        return quorum if "CKQUORUM" in command else f"ip\n{named[sentinel.name]}\nport\n6379"

    monkeypatch.setattr(RedisMember, "ask", ask)
    servers = {name: RedisMember(name, f"gw-{name}", "running", "") for name in SENTINELS}
    monkeypatch.setattr(majorities, "redis_members", lambda _: servers)
    result = majorities.sentinel_majority(examined("redis"))
    assert result.status is status
    assert text in result.text
    assert all("\n" not in detail for detail in result.details)


def test_a_missing_sentinel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisMember, "ask", lambda *_: f"{QUORUM}\n")
    servers = {name: RedisMember(name, f"gw-{name}", "running", "") for name in SENTINELS[:2]}
    monkeypatch.setattr(majorities, "redis_members", lambda _: servers)
    assert majorities.sentinel_majority(examined("redis")).details == ("sentinel-3: missing",)


def test_a_stack_without_replicas_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(majorities, "redis_members", lambda _: {})
    for check in (majorities.store_majority, majorities.sentinel_majority):
        assert check(examined("postgres", "redis")).status is CheckStatus.SKIPPED


@pytest.fixture
def patroni(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Patroni reports: `lag` of the last member, and `config`."""
    said: dict[str, Any] = {"lag": 0, "config": "loop_wait: 2\n", "slots": "", "silent": "", "isolated": ""}

    def ctl(container: str, command: str, *__: str, seconds: int = 0) -> str:
        if container == said["isolated"]:
            raise DockerError("`docker exec` failed: exit status 124")
        if command == "show-config":
            return str(said["config"])
        roles = dict(zip(MEMBERS, ("Leader", "Sync Standby", "Replica"), strict=True))
        rows = [{"Member": m, "Role": r, "State": "streaming", "TL": 3} for m, r in roles.items()]
        rows[0]["State"], rows[1]["Replay Lag"], rows[2]["Replay Lag"] = "running", 0, said["lag"]
        return json.dumps(rows)

    running = [{"Name": f"/gw-{member}", "State": {"Status": "running"}} for member in MEMBERS]
    monkeypatch.setattr(cluster, "inspect", lambda *_: running)
    monkeypatch.setattr(cluster, "answers_api", lambda container: container != said["silent"])
    monkeypatch.setattr(
        replicas, "psql", lambda container, *_, **__: said["slots"] if container == "gw-postgres-2" else ""
    )
    monkeypatch.setattr(members, "patronictl", ctl)
    return said


@promise("doctor reports lost majorities, replicas that are far behind, and a paused failover")
@pytest.mark.parametrize(
    ("lag", "config", "status", "text"),
    [
        (511, "loop_wait: 2\npause: false\n", CheckStatus.OK, "2 replicas stream from it"),
        (512, "loop_wait: 2\n", CheckStatus.WARN, "postgres-3 is 512 MB behind"),
        (0, "loop_wait: 2\npause: true\n", CheckStatus.WARN, "failover is paused"),
    ],
)
def test_replicas_that_lag_and_a_paused_failover_are_reported(
    patroni: dict[str, Any], lag: int, config: str, status: CheckStatus, text: str
) -> None:
    patroni.update(lag=lag, config=config)
    result = replicas.replicas(examined())
    assert result.status is status
    assert text in result.text
    # Each server's figures.
    assert result.details == (
        "postgres: primary, running, timeline 3",
        "postgres-2: synchronous replica, streaming, timeline 3, 0 MB behind",
        f"postgres-3: replica, streaming, timeline 3, {lag} MB behind",
    )
    assert ("patronictl resume" in result.advice) == ("true" in config)


@pytest.mark.parametrize("isolated", ["gw-postgres", "gw-postgres-3"])
def test_a_paused_failover_is_reported_beside_a_server_that_has_just_been_isolated(
    patroni: dict[str, Any], isolated: str
) -> None:
    # etcd still lists it, until its lease ends.
    patroni.update(isolated=isolated, config="pause: true\n")
    assert "failover is paused" in replicas.replicas(examined()).text


@promise(
    "doctor reports replication slots that belong to no member, and an API of Patroni that does not answer"
)
@pytest.mark.parametrize(
    ("said", "text", "advice"),
    [
        (
            {"slots": "stolen\n"},
            "postgres-2 has the replication slot stolen, which belongs to no member",
            "drop",
        ),
        ({"slots": "a\nb\n"}, "postgres-2 has the replication slot a, .*, and 1 more", "drop"),
        ({"silent": "gw-postgres-3"}, "Patroni's API of postgres-3 does not answer", "cluster status"),
    ],
)
def test_foreign_slots_and_a_silent_api_are_reported(
    patroni: dict[str, Any], said: dict[str, str], text: str, advice: str
) -> None:
    patroni.update(said)
    result = replicas.replicas(examined())
    assert result.status is CheckStatus.WARN
    assert re.match(text, result.text)
    assert advice in result.advice
