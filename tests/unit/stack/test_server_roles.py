"""The roles that `groundwork status` shows, from the servers' answers."""

from __future__ import annotations

import pytest

from infra.docker.engine import DockerError
from infra.docker.redis_members import RedisMember
from ops.stack import server_roles as module
from ops.stack.server_roles import postgres_roles, server_roles
from ops.stack.stack_status import render
from tests.cases import in_case


def test_the_primary_names_the_roles_of_its_replicas() -> None:
    cases: list[tuple[dict[str, str], dict[str, str]]] = [
        (
            {"postgres": "f postgres-2=async postgres-3=sync", "postgres-2": "t", "postgres-3": "t"},
            {"postgres": "primary", "postgres-2": "replica", "postgres-3": "synchronous replica"},
        ),
        # One server does not answer, and another does not stream.
        (
            {"postgres": "", "postgres-2": "f", "postgres-3": "t"},
            {"postgres-2": "primary", "postgres-3": "no primary"},
        ),
        ({"postgres": "t", "postgres-2": "t"}, {"postgres": "no primary", "postgres-2": "no primary"}),
    ]
    for answers, roles in cases:
        with in_case(answers, roles):
            assert postgres_roles(answers) == roles


def redis(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str | None]) -> None:
    """Let a stack's Redis consist of these servers, each with its answer to INFO replication, or none."""

    def ask(server: RedisMember, *_: object) -> str:
        answer = answers[server.name]
        if answer is None:
            raise DockerError("no answer")
        return answer

    monkeypatch.setattr(RedisMember, "ask", ask)
    found = {name: RedisMember(name, f"gw-{name}", "running", "10.0.0.40") for name in answers}
    monkeypatch.setattr(module, "redis_members", lambda _: found if len(found) > 1 else {})


def test_a_replica_of_redis_without_its_primary_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "redis": "role:slave\r\nmaster_link_status:down",
        "redis-2": "role:master\r\nconnected_slaves:1",
        "redis-3": "role:slave\r\nmaster_link_status:up",
    }
    redis(monkeypatch, answers)
    assert server_roles({"redis": "gw-redis"}, ["redis"]) == {
        "redis": "no primary", "redis-2": "primary", "redis-3": "replica"
    }  # fmt: skip
    redis(monkeypatch, answers | {"redis-2": None})
    assert server_roles({"redis": "gw-redis"}, ["redis"]).keys() == {"redis", "redis-3"}


def test_single_servers_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise AssertionError("a single server was asked")

    monkeypatch.setattr(module, "psql", fail)
    redis(monkeypatch, {"redis": None})
    containers = {"postgres": "gw-postgres", "redis": "gw-redis", "access": "gw-access"}
    assert server_roles(containers, [*containers]) == {}


def test_a_server_that_does_not_answer_has_no_role(monkeypatch: pytest.MonkeyPatch) -> None:
    def psql(container: str, *_: object, **__: object) -> str:
        if container == "gw-postgres":
            raise DockerError("container is paused")
        return "f postgres-3=sync\n" if container == "gw-postgres-2" else "t\n"

    monkeypatch.setattr(module, "psql", psql)
    members = ("postgres", "postgres-2", "postgres-3")
    containers = {member: f"gw-{member}" for member in members}
    found = server_roles(containers, members)
    assert found == {"postgres-2": "primary", "postgres-3": "synchronous replica"}
    # The others are frozen.
    assert server_roles(containers, ["postgres-2"]) == {"postgres-2": "primary"}


def test_without_replicas_the_table_has_no_column_for_roles() -> None:
    row = {
        "service": "postgres",
        "container": "gw-postgres",
        "health": "healthy",
        "address": "",
        "memoryLimitBytes": 0,
    }
    assert render([row])[0].split() == ["service", "health", "address", "memory", "container"]
    assert render([{**row, "role": "primary"}])[0].split()[1] == "role"
