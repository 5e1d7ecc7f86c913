"""Commands without a reachable database, or with another one than groundwork's: one line of error with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ops.cli import main
from ops.errors import Exit, OpsError
from ops.stack.database_url import require_database
from tests.conftest import Database
from tests.containers import Server
from tests.promises import promise

COMMANDS = [
    ("seed",),
    ("tokens", "rotate"),
    ("import", "gharchive", "{events}"),
    ("cache", "warm"),
    ("migrate", "status"),
]
Refused = Callable[[str, tuple[str, ...]], tuple[int, str]]
_KEY = f"k1:{'A' * 43}="
each_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.json"
    path.write_text("{}\n")
    return path


@pytest.fixture
def refused(events: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """refused(url, command) returns the exit code and the line of the error on stderr."""
    monkeypatch.setenv("GROUNDWORK_TOKEN_KEYS", _KEY)
    monkeypatch.setenv("REDIS_URL", "redis://app:canary@127.0.0.1:9/0")

    def run(url: str, command: tuple[str, ...]) -> tuple[int, str]:
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(SystemExit) as over:
            main([part.format(events=events) for part in command])
        out, err = capfd.readouterr()
        assert out == ""
        # The lines before name the database and the Redis that the command changes.
        (line,) = [line for line in err.splitlines() if not line.startswith(("database: ", "Redis: "))]
        assert line.startswith("groundwork: ")
        assert "canary" not in err
        return int(over.value.code or 0), line

    return run


@promise("no message quotes a connection string or password")
@each_command
@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://app:canary@localhost/x", "is not a Postgres URL"), ("canary", "cannot be parsed")],
)
def test_an_invalid_url_is_not_quoted(
    refused: Refused, command: tuple[str, ...], url: str, reason: str
) -> None:
    code, line = refused(url, command)
    assert code == Exit.USAGE
    assert reason in line


@promise("a wrong password, an expired certificate and an absent server are told apart")
@each_command
def test_a_refused_connection_is_reported_at_once(refused: Refused, command: tuple[str, ...]) -> None:
    code, line = refused("postgresql://app:canary@127.0.0.1:9/groundwork", command)
    assert code == Exit.UNREACHABLE
    assert "Connection refused" in line


@promise("a wrong password, an expired certificate and an absent server are told apart")
@each_command
def test_a_wrong_password_is_reported_as_such(
    refused: Refused, database: Database, command: tuple[str, ...]
) -> None:
    right = database.server.passwords["app_a"]
    code, line = refused(database.url("app").replace(right, "canary"), command)
    assert code == Exit.UNREACHABLE
    assert "password authentication failed" in line


@promise("a wrong password, an expired certificate and an absent server are told apart")
@each_command
def test_an_expired_certificate_is_reported_as_such(
    refused: Refused, expired_server: Server, command: tuple[str, ...]
) -> None:
    code, line = refused(expired_server.database_url("app_a"), command)
    assert code == Exit.UNREACHABLE
    assert "certificate" in line


of_the_schema = pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] != "migrate"], ids=" ".join)


@of_the_schema
def test_a_database_without_groundworks_schema_is_reported_as_such(
    refused: Refused, empty_database: Database, command: tuple[str, ...]
) -> None:
    code, line = refused(empty_database.url("app"), command)
    assert code == Exit.ERROR
    assert f"role 'app_a' sees no schema of groundwork in database '{empty_database.name}'" in line
    assert "`groundwork migrate up`" in line


@pytest.mark.parametrize("role", ["readonly", "monitor"])
@of_the_schema
def test_a_role_that_may_not_write_is_reported_with_the_role_that_may(
    refused: Refused, database: Database, command: tuple[str, ...], role: str
) -> None:
    code, line = refused(database.url(role), command)
    if command == ("cache", "warm") and role == "readonly":
        # It only reads, and gets as far as Redis.
        assert (code, "Redis" in line) == (Exit.UNREACHABLE, True), line
        return
    assert code == Exit.ERROR
    seen = "may not write the data in" if role == "readonly" else "sees no schema of groundwork in"
    assert f"role '{role}_a' {seen} database '{database.name}'" in line


def test_a_database_without_the_tables_of_the_example_is_accepted(database: Database) -> None:
    database.psql(
        "SET search_path = groundwork;"
        " DROP FUNCTION make_activity_partitions; DROP TABLE activities, repositories, organizations, users CASCADE"
    )
    require_database(database.url("app"))
    with pytest.raises(OpsError, match="may not write the data"):
        require_database(database.url("readonly"))
    require_database(database.url("readonly"), only_reads=True)
