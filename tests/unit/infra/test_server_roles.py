"""The login roles of a server are changed within a minute for each step, however long the steps before took."""

from __future__ import annotations

import pytest

from infra.docker import server_roles
from infra.docker.engine import DockerError
from infra.spec import roles


class SlowServer:
    """A server on a busy machine: each statement takes `seconds`, and sessions remain for the first `looks` at them."""

    def __init__(self, seconds: float, looks: int) -> None:
        self.seconds, self.looks, self.now = seconds, looks, 0.0

    def psql(self, container: str, sql: str, **_: object) -> str:
        self.now += self.seconds
        if not sql.startswith(roles.STARTING_SESSIONS_SQL):
            return ""
        self.looks -= 1
        return "app_b\n" if self.looks >= 0 else ""


def apply_to(server: SlowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_roles, "psql", server.psql)
    monkeypatch.setattr(server_roles.time, "monotonic", lambda: server.now)
    server_roles._apply_logins("postgres", {"app_a": "SCRAM-SHA-256$..."}, dict.fromkeys(roles.LOGINS, 1))


def test_sessions_that_end_are_awaited_although_the_steps_before_took_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apply_to(SlowServer(seconds=50, looks=1), monkeypatch)


def test_sessions_that_remain_for_a_minute_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DockerError, match=r"sessions of .*app_b.* remain after 60 s"):
        apply_to(SlowServer(seconds=10, looks=100), monkeypatch)
