"""Settings from the environment, and connection strings that are read again for each connection."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from cache.login_token import LoginTokens
from cache.settings import CacheSettings
from cache.url_source import UrlSource
from db.errors import InvalidSetting
from db.hosts import Hosts
from db.settings import DatabaseSettings
from tests.cases import in_case

URL = "postgresql://app_a:p%40ss@db:5433/groundwork?sslmode=verify-full&sslrootcert=/ca.crt"


def test_the_connection_string_keeps_its_options_and_gets_timeouts() -> None:
    settings = DatabaseSettings.from_environment({"DATABASE_URL": URL, "GROUNDWORK_POOL_SIZE": "3"})
    parameters = conninfo_to_dict(settings.conninfo())
    assert settings.pool_size == 3
    assert parameters["password"] == "p@ss"
    assert parameters["sslmode"] == "verify-full"
    assert parameters["tcp_user_timeout"] == "2000"
    assert parameters["connect_timeout"] == "2"
    assert str(parameters["options"]).startswith("-c statement_timeout=8000 -c datestyle=ISO,MDY ")
    assert parameters["client_encoding"] == "UTF8"


def test_instances_share_a_roles_connections() -> None:
    environment = {"DATABASE_URL": URL, "GROUNDWORK_POOL_SIZE": "3", "GROUNDWORK_INSTANCES": "4"}
    assert DatabaseSettings.from_environment(environment).connections == 12


def test_options_of_the_connection_string_have_priority_except_over_the_sessions_settings() -> None:
    options = "connect_timeout=7&options=-cx%3D1&client_encoding=LATIN1"
    settings = DatabaseSettings.from_environment({"DATABASE_URL": f"{URL}&{options}"})
    parameters = conninfo_to_dict(settings.conninfo())
    assert parameters["connect_timeout"] == "7"
    # Other options must not remove the server's timeout.
    assert str(parameters["options"]).startswith("-c statement_timeout=8000 -cx=1 -c datestyle=ISO,MDY ")
    assert parameters["client_encoding"] == "UTF8"


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "database_url"
    file.write_text(URL + "\n")
    settings = DatabaseSettings.from_environment({"DATABASE_URL_FILE": str(file)})
    assert "password=p@ss" in settings.conninfo()
    file.write_text(URL.replace("p%40ss", "rotated"))
    assert "password=rotated" in settings.conninfo()


def test_redis_credentials_are_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "redis_url"
    file.write_text("rediss://app:p%40ss@redis:6379/0?ssl_ca_certs=/ca.crt")
    settings = CacheSettings.from_environment({"REDIS_URL_FILE": str(file)})
    assert settings.server_urls() == ("rediss://redis:6379/0?ssl_ca_certs=/ca.crt",)
    assert settings.credentials() == ("app", "p@ss")
    file.write_text("rediss://app:rotated@redis:6379/0")
    assert settings.credentials() == ("app", "rotated")


def test_a_wrong_setting_is_refused_without_quoting_secrets() -> None:
    cases: list[dict[str, str]] = [
        {},
        {"DATABASE_URL": URL, "DATABASE_URL_FILE": "/x"},
        {"DATABASE_URL_FILE": "/nowhere"},
        {"DATABASE_URL": "not a url with canary"},
        {"DATABASE_URL": "postgresql://u:canary@h/d?nonsense=1"},
        # A password that is not percent-encoded. libpq reads a part of it as the host, the port or the database.
        {"DATABASE_URL": "postgresql://u:first@canary@h/d"},
        {"DATABASE_URL": "postgresql://u:canary/rest@h/d"},
        {"DATABASE_URL": "postgresql://u:12/canary@h/d"},
        {"DATABASE_URL": URL, "GROUNDWORK_POOL_SIZE": "lots"},
        {"DATABASE_URL": URL, "GROUNDWORK_POOL_SIZE": "0"},
        {"DATABASE_URL": URL, "GROUNDWORK_INSTANCES": "some"},
        {"DATABASE_URL": URL, "GROUNDWORK_INSTANCES": "0"},
    ]
    for environment in cases:
        with in_case(environment):
            with pytest.raises(InvalidSetting) as caught:
                DatabaseSettings.from_environment(environment).conninfo()
            assert "canary" not in str(caught.value)
            assert caught.value.__cause__ is None or "canary" not in str(caught.value.__cause__)


def test_a_repr_does_not_show_the_url() -> None:
    assert "p%40ss" not in repr(DatabaseSettings.from_environment({"DATABASE_URL": URL}))


def test_the_replicas_have_a_connection_string_and_a_size_of_their_own() -> None:
    environment = {
        "DATABASE_URL": "postgresql://app_a@one/groundwork",
        "DATABASE_READ_URL": "postgresql://app_a@one,two/groundwork?target_session_attrs=prefer-standby",
        "GROUNDWORK_READ_POOL_SIZE": "3",
    }
    settings = DatabaseSettings.from_environment(environment)
    replicas = settings.of_replicas()
    assert replicas is not None
    assert (replicas.pool_size, settings.pool_size) == (3, DatabaseSettings.pool_size)
    given = conninfo_to_dict(replicas.conninfo())
    assert given["host"] == "one,two"
    # Not the primary, on which these connections would be beyond the pool's size.
    assert given["target_session_attrs"] == "standby"
    assert conninfo_to_dict(settings.conninfo())["host"] == "one"


def test_without_a_url_there_are_no_replicas() -> None:
    settings = DatabaseSettings.from_environment({"DATABASE_URL": "postgresql://app_a@one/groundwork"})
    assert settings.of_replicas() is None


def test_a_wrong_setting_of_the_replicas_is_refused() -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({"DATABASE_READ_URL": ""}, "DATABASE_READ_URL is set but empty"),
        ({"DATABASE_READ_URL_FILE": " "}, "DATABASE_READ_URL_FILE is set but empty"),
        ({"GROUNDWORK_READ_POOL_SIZE": "0"}, "read_pool_size is 0; use 1 or more"),
        ({"GROUNDWORK_READ_POOL_SIZE": ""}, "GROUNDWORK_READ_POOL_SIZE is ''; write a whole number"),
    ]
    for variables, message in cases:
        with in_case(variables, message):
            with pytest.raises(InvalidSetting, match=message):
                DatabaseSettings.from_environment(
                    {"DATABASE_URL": "postgresql://app_a@one/groundwork", **variables}
                )


def test_each_server_of_a_list_gets_a_token_of_its_own() -> None:
    tokens = LoginTokens(lambda *subject: "-".join(subject))
    url = "postgresql://app_a@one:1,two:2/groundwork?sslmode=verify-full"
    settings = DatabaseSettings(UrlSource("DATABASE_READ_URL", InvalidSetting, url), tokens=tokens)
    attempts = Hosts(tokens).attempts(settings.conninfo())
    passwords = [conninfo_to_dict(attempt.conninfo)["password"] for attempt in attempts]
    assert passwords == ["one-1-app_a", "two-2-app_a"]
