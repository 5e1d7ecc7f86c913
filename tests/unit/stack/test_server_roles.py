"""The roles that `groundwork status` shows, from the servers' answers."""

from __future__ import annotations

import pytest

from infra.docker.engine import DockerError
from ops.stack import server_roles as module
from ops.stack.server_roles import postgres_roles, redis_roles, server_roles
from ops.stack.stack_status import render


@pytest.mark.parametrize(
    ("answers", "roles"),
    [
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
    ],
)
def test_the_primary_names_the_roles_of_its_replicas(answers: dict[str, str], roles: dict[str, str]) -> None:
    assert postgres_roles(answers) == roles


def test_a_replica_of_redis_without_its_primary_is_shown_as_such() -> None:
    answers = {
        "redis": "OK\nrole:slave\r\nmaster_link_status:down\r\n",
        "redis-2": "OK\nrole:master\r\nconnected_slaves:1\r\n",
        "redis-3": "OK\nrole:slave\r\nmaster_link_status:up\r\n",
        "redis-4": "",
    }
    assert redis_roles(answers) == {"redis": "no primary", "redis-2": "primary", "redis-3": "replica"}


def test_single_servers_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise AssertionError("a single server was asked")

    monkeypatch.setattr(module, "psql", fail)
    monkeypatch.setattr(module, "docker", fail)
    assert server_roles({"postgres": "gw-postgres", "redis": "gw-redis", "access": "gw-access"}) == {}


def test_a_server_that_does_not_answer_has_no_role(monkeypatch: pytest.MonkeyPatch) -> None:
    def psql(container: str, *_: object, **__: object) -> str:
        if container == "gw-postgres":
            raise DockerError("container is paused")
        return "f postgres-3=sync\n" if container == "gw-postgres-2" else "t\n"

    monkeypatch.setattr(module, "psql", psql)
    members = ("postgres", "postgres-2", "postgres-3")
    found = server_roles({member: f"gw-{member}" for member in members})
    assert found == {"postgres-2": "primary", "postgres-3": "synchronous replica"}


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
