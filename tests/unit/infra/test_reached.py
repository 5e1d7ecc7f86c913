"""Connections to a stack by its outputs: with passwords on Docker, and with locally signed tokens on AWS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest

from infra import outputs
from tests.cases import in_case
from tests.infra.live.reached import Reached, has_libraries

HOST, GROUP = "groundwork-prod.example.eu-central-1.rds.amazonaws.com", "groundwork-prod"


@pytest.fixture
def on_aws(monkeypatch: pytest.MonkeyPatch) -> Reached:
    """Outputs of a stack on AWS, with made-up credentials."""
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return Reached(
        {
            outputs.TARGET: "aws",
            outputs.LOGIN_ENVIRONMENT: {
                "GROUNDWORK_DATABASE_LOGIN": "iam",
                "GROUNDWORK_CACHE_LOGIN": "iam",
                "GROUNDWORK_REPLICATION_GROUP": GROUP,
                "AWS_REGION": "eu-central-1",
            },
            outputs.DATABASE_URLS: {
                "app": outputs.database_url(
                    login="app_a", password=None, host=HOST, port=15432, ca_file="/etc/ca.pem"
                )
            },
            outputs.REDIS_URLS: {
                "app": outputs.redis_url(
                    user="groundwork-prod-app", password=None, servers=[("cache.example", 6379)], ca_file="/etc/ca.pem"
                )
            },
        }
    )  # fmt: skip


def test_a_login_on_aws_is_a_token_for_its_host_and_user(on_aws: Reached) -> None:
    given = psycopg.conninfo.conninfo_to_dict(on_aws.conninfo("app"))
    assert on_aws.is_on_aws
    assert (given["host"], given["user"], given["sslmode"]) == (HOST, "app_a", "verify-full")
    assert str(given["password"]).startswith(f"{HOST}:15432/?")
    assert "DBUser=app_a" in str(given["password"])
    assert "options" not in given


def test_an_elasticache_user_gets_a_token_for_its_replication_group(on_aws: Reached, tmp_path: Path) -> None:
    settings: dict[str, Any] = on_aws.redis("app").connection_pool.connection_kwargs
    assert settings["username"] == "groundwork-prod-app"
    assert settings["password"].startswith(f"{GROUP}/?Action=connect")
    assert settings["host"] == "cache.example"
    stranger = on_aws.redis("app", ca_file=tmp_path / "stranger.crt")
    assert stranger.connection_pool.connection_kwargs["ssl_ca_certs"] == str(tmp_path / "stranger.crt")


def test_a_login_on_docker_is_the_unchanged_url() -> None:
    url = outputs.database_url(login="app_a", password="p", host="localhost", port=1, ca_file="/ca")
    assert Reached({outputs.TARGET: "docker", outputs.DATABASE_URLS: {"app": url}}).conninfo("app") == url


def test_libraries_of_rds_itself_are_accepted_on_aws_only() -> None:
    cases: list[tuple[str, bool, bool]] = [
        ("pg_stat_statements", False, True),
        ("rdsutils,pg_stat_statements", True, True),
        ("rdsutils, rds_casts, pg_stat_statements", True, True),
        ("rdsutils", True, False),
        ("pg_stat_statements,pg_cron", False, False),
    ]
    for preloaded, is_on_aws, found in cases:
        with in_case(preloaded, is_on_aws, found):
            assert has_libraries(preloaded, "pg_stat_statements", others=is_on_aws) is found
