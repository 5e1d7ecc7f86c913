"""A new password is tested before the old one is removed: a failing login is one line of error and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ops.errors import Exit, OpsError
from ops.rotation.logins import try_out
from tests import containers
from tests.containers import Server
from tests.promises import promise


@dataclass
class Urls:
    """A stack with these outputs."""

    postgres: str | None = None
    redis: str | None = None
    name: str = "prod"

    def urls(self) -> tuple[dict[str, str], dict[str, str]]:
        return {"app": self.postgres} if self.postgres else {}, {"app": self.redis} if self.redis else {}


def refusal(stack: Any) -> tuple[str, Exit]:
    with pytest.raises(OpsError) as raised:
        try_out(stack, ["app"])
    message = str(raised.value)
    assert "\n" not in message
    return message, raised.value.exit_code


def test_a_working_password_is_accepted(postgres_server: Server, redis_server: Server) -> None:
    postgres = postgres_server.database_url("app_a", "groundwork")
    try_out(Urls(postgres, redis_server.redis_url("app")), ["app", "ops"])  # type: ignore[arg-type]


def test_a_login_at_its_connection_limit_is_tested_by_its_password(postgres_server: Server) -> None:
    url = postgres_server.database_url("app_a", "groundwork")
    wrong = url.replace(postgres_server.passwords["app_a"], "surely-wrong")
    postgres_server.psql("ALTER ROLE app_a CONNECTION LIMIT 0")
    try:
        try_out(Urls(url), ["app"])  # type: ignore[arg-type]
        message, code = refusal(Urls(wrong))
    finally:
        postgres_server.psql("ALTER ROLE app_a CONNECTION LIMIT 60")
    assert code == Exit.ERROR
    assert "password authentication failed" in message


def test_a_login_that_may_not_log_in_is_a_refusal(postgres_server: Server) -> None:
    postgres_server.psql("ALTER ROLE app_a NOLOGIN")
    try:
        message, code = refusal(Urls(postgres_server.database_url("app_a", "groundwork")))
    finally:
        postgres_server.psql("ALTER ROLE app_a LOGIN")
    assert code == Exit.ERROR
    assert "is not permitted to log in" in message


@promise("a new password that does not work does not replace the old one")
@pytest.mark.parametrize("server", ["Postgres", "Redis"])
def test_a_wrong_password_leaves_the_old_one(
    postgres_server: Server, redis_server: Server, server: str
) -> None:
    if server == "Postgres":
        url = postgres_server.database_url("app_a")
        stack = Urls(postgres=url.replace(postgres_server.passwords["app_a"], "surely-wrong"))
    else:
        url = redis_server.redis_url("app")
        stack = Urls(redis=url.replace(redis_server.passwords["app"], "surely-wrong"))
    message, code = refusal(stack)
    assert code == Exit.ERROR
    assert f"cannot log in to {server}" in message
    assert "the old password is still accepted" in message
    assert "surely-wrong" not in message


@pytest.fixture(params=["postgres", "redis"])
def expired(request: pytest.FixtureRequest, docker_engine: None) -> Iterator[Urls]:
    if request.param == "postgres":
        with containers.postgres_server(certificate_days=-1) as server:
            yield Urls(postgres=server.database_url("app_a"))
    else:
        with containers.redis_server(certificate_days=-1) as server:
            yield Urls(redis=server.redis_url("app"))


def test_an_expired_certificate_is_reported_with_its_fix(expired: Urls) -> None:
    message, code = refusal(expired)
    assert code == Exit.UNREACHABLE
    assert "renew an expired one with `groundwork rotate certificates --stack prod`" in message


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_an_address_without_a_server_is_unreachable(server: str) -> None:
    url = {
        "postgres": "postgresql://app_a:x@localhost:1/groundwork?connect_timeout=2",
        "redis": "redis://app:x@localhost:1/0",
    }[server]
    message, code = refusal(Urls(**{server: url}))
    assert code == Exit.UNREACHABLE
    assert "x@" not in message
