"""Commands log in to a stack on AWS with tokens, which are signed for the stack's region and servers."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from cache.settings import CacheSettings
from db._sync.connection import BoundedConnection
from infra import outputs
from ops.cache.server import _as_ops, cache_settings
from ops.servers.errors import ServerUnreachable
from ops.servers.monitored_postgres import MonitoredPostgres
from ops.servers.monitored_redis import MonitoredRedis
from ops.servers.monitored_stack import MonitoredStack
from ops.stack.connections import environment_of
from ops.stack.database_url import select_database
from ops.stack.pulumi_stack import PulumiStack

REGION = "eu-north-1"
HOST, REDIS = "groundwork-prod.abc.rds.example", "master.groundwork-prod.cache.example"
LOGIN = {
    "GROUNDWORK_DATABASE_LOGIN": "iam",
    "GROUNDWORK_CACHE_LOGIN": "iam",
    "GROUNDWORK_REPLICATION_GROUP": "groundwork-prod",
    "AWS_REGION": REGION,
}
ROLES = ("app", "monitor", "migrator", "ops")
ON_AWS: dict[str, Any] = {
    outputs.TARGET: "aws",
    outputs.POSTGRES: {"host": HOST, "port": 15432},
    outputs.REDIS: {"host": REDIS, "port": 6379},
    outputs.CA_FILE: "/etc/groundwork/rds-ca.pem",
    outputs.EXPECTED: {},
    outputs.BACKUPS: {"region": REGION, "instance": "groundwork-prod"},
    outputs.LOGIN_ENVIRONMENT: LOGIN,
    outputs.DATABASE_URLS: {
        role: outputs.database_url(login=f"{role}_a", password=None, host=HOST, port=15432, ca_file="/ca.pem")
        for role in ROLES
    },
    outputs.REDIS_URLS: {
        role: outputs.redis_url(user=f"gw-{role}", password=None, servers=[(REDIS, 6379)], ca_file="/ca.pem")
        for role in ROLES
    },
}


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of AWS, the region of another stack, and no servers."""
    for name in ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE", *LOGIN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(PulumiStack, "outputs", lambda self: ON_AWS)


@pytest.fixture
def monitored() -> MonitoredStack:
    return MonitoredStack.from_outputs("prod", ON_AWS)


def is_token_of(password: str, user: str) -> bool:
    found = parse_qs(urlsplit(f"https://{password}").query)
    (user_found,) = found.get("DBUser") or found["User"]
    return user_found == user and f"/{REGION}/" in found["X-Amz-Credential"][0]


def assert_logs_in(settings: CacheSettings, user: str) -> None:
    credentials = settings.credentials()
    assert len(credentials) == 2
    assert credentials[0] == user
    assert is_token_of(credentials[1], user)


def test_a_cache_command_logs_in_to_the_redis_of_a_stack_on_aws() -> None:
    for role in ("ops", "app"):
        assert_logs_in(cache_settings("prod", role), f"gw-{role}")


def test_a_cache_command_uses_the_password_of_a_stack_in_docker_although_the_shell_selects_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    docker = {outputs.DATABASE_URLS: {}, outputs.REDIS_URLS: {"ops": "redis://ops:canary@localhost:6379/0"}}
    monkeypatch.setattr(PulumiStack, "outputs", lambda self: docker)
    assert cache_settings("dev", "ops").credentials() == ("ops", "canary")


def test_a_cache_command_logs_in_as_ops_although_the_shell_has_an_applications_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for role, user in (("app", "gw-ops"), ("ops", None)):
        for name, value in environment_of(role, "prod").items():
            monkeypatch.setenv(name, value)
        own = _as_ops(cache_settings("prod", "ops"), "prod")
        if user is None:
            assert own is None
        else:
            assert own is not None
            assert_logs_in(own, user)


def test_a_command_logs_in_to_the_postgres_of_a_stack_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    selected = select_database(None, role="app", stack="prod")
    assert is_token_of(str(conninfo_to_dict(selected.url)["password"]), "app_a")
    assert str(selected) == f"{HOST}:15432/groundwork as app_a, from stack 'prod'"
    # The variables of an application select the same.
    for name, value in environment_of("app", "prod").items():
        monkeypatch.setenv(name, value)
    selected = select_database(None, role="app", stack="dev")
    assert is_token_of(str(conninfo_to_dict(selected.url)["password"]), "app_a")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app_a:own@localhost/groundwork")
    assert select_database(None, role="app", stack="dev").url == "postgresql://app_a:own@localhost/groundwork"


def test_doctor_logs_in_to_postgres_with_a_token(
    monitored: MonitoredStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []

    class Connected(Exception):
        pass

    def connect(conninfo: str, **_: Any) -> None:
        found.append(conninfo_to_dict(conninfo))
        raise Connected

    monkeypatch.setattr(BoundedConnection, "connect", connect)
    with pytest.raises(Connected):
        MonitoredPostgres(monitored).rows("SELECT 1")
    assert is_token_of(found[0]["password"], "monitor_a")


def test_doctor_logs_in_to_redis_with_a_token(monitored: MonitoredStack) -> None:
    servers = MonitoredRedis(monitored)
    for client, user in ((servers._monitor, "gw-monitor"), (servers._ops, "gw-ops")):
        found, password = client.connection_pool.connection_kwargs["credential_provider"].get_credentials()
        assert found == user
        assert is_token_of(password, user)
    servers.close()


def test_missing_credentials_of_aws_are_reported(
    monitored: MonitoredStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/no/such/file")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ServerUnreachable, match=f"cannot log in to Postgres at {HOST}"):
        MonitoredPostgres(monitored).rows("SELECT 1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://gw-monitor@127.0.0.1:{server.getsockname()[1]}/0"
        servers = MonitoredRedis(replace(monitored, redis_url=url))
        with pytest.raises(ServerUnreachable, match=r"cannot log in to Redis at 127\.0\.0\.1"):
            servers.info()
        (answer,) = servers.replication().values()
        assert "credentials" in str(answer)
        servers.close()
