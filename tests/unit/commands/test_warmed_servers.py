"""`cache warm` and `cache flush --warm` read the database that belongs to the cache: both of a stack, or both given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ops.commands.cache import cache
from ops.errors import Exit, OpsError
from tests.unit.commands.test_foreign_text import CACHE, answers

COMMANDS = [("warm",), ("flush", "--all", "--yes", "--warm", "5")]
DATABASE, REDIS = "postgresql://me:canary@db.example/scratch", "redis://me:canary@cache.example:7000/0"
OF_STACK = {
    "DATABASE_URL": "postgresql://app_a:canary@localhost:15432/groundwork",
    "REDIS_URL": "redis://app:canary@localhost:16379/0",
}
every_command = pytest.mark.parametrize("command", COMMANDS, ids=["warm", "flush"])


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stub a stack, the flush and the warming. Yields `flushed`, and the URLs of the servers of each warming."""
    found: list[Any] = []

    def flush(*_: Any, **__: Any) -> Any:
        found.append("flushed")
        return type("Done", (), {"scope": "all", "keys": None, "seconds": 1.0})

    def warm(settings: Any, url: str, *_: Any) -> dict[str, int]:
        found.append((settings.url.read(), url))
        return {"users": 1}

    for name in ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ops.stack.connections.environment_of", answers(OF_STACK))
    monkeypatch.setattr("ops.cache.warming.warm_from_here", warm)
    for name, value in (CACHE | {"ops.cache.flush.flush": flush}).items():
        monkeypatch.setattr(name, value)
    return found


@every_command
@pytest.mark.parametrize(
    ("variables", "options", "said"),
    [
        (["DATABASE_URL"], (), "DATABASE_URL is set and REDIS_URL is not, "),
        (["DATABASE_URL_FILE"], (), "DATABASE_URL_FILE is set and REDIS_URL is not, "),
        (["REDIS_URL"], (), "REDIS_URL is set and DATABASE_URL is not, "),
        (["DATABASE_URL"], ("--stack", "staging"), "DATABASE_URL and --stack "),
        # The default is the user's choice too if it is given.
        (["DATABASE_URL", "REDIS_URL"], ("--stack", "dev"), " and --stack "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list | tuple) else "",
)
def test_a_cache_is_not_filled_from_a_database_that_is_chosen_elsewhere(
    done: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: tuple[str, ...],
    variables: list[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    file = tmp_path / "url"
    file.write_text(DATABASE)
    for name in variables:
        values = {"DATABASE_URL": DATABASE, "REDIS_URL": REDIS, "DATABASE_URL_FILE": str(file)}
        monkeypatch.setenv(name, values[name])
    refused = CliRunner().invoke(cache, [*command, *options]).exception
    assert isinstance(refused, OpsError)
    assert said in str(refused)
    assert "canary" not in str(refused)
    assert (refused.exit_code, done) == (Exit.USAGE, [])


@every_command
def test_a_cache_is_filled_from_its_own_database_which_is_printed(
    done: list[Any], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    before = ["flushed"] if command[0] == "flush" else []
    of_stack = CliRunner().invoke(cache, [*command, "--stack", "staging"])
    assert done == [*before, (OF_STACK["REDIS_URL"], OF_STACK["DATABASE_URL"])], of_stack.output
    assert (
        "database: localhost:15432/groundwork as app_a, from stack 'staging'" in of_stack.stderr.splitlines()
    )
    done.clear()
    monkeypatch.setenv("DATABASE_URL", DATABASE)
    monkeypatch.setenv("REDIS_URL", REDIS)
    given = CliRunner().invoke(cache, command)
    assert done == [*before, (REDIS, DATABASE)], given.output
    assert "database: db.example:5432/scratch as me, from DATABASE_URL" in given.stderr.splitlines()


@every_command
def test_without_a_checkout_nothing_is_flushed_before_the_missing_database_is_reported(
    done: list[Any], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    for module in ("ops.cache.warming", "ops.cache.server", "ops.stack.database_url"):
        monkeypatch.setattr(f"{module}.is_checkout", answers(False))
    monkeypatch.setenv("REDIS_URL", REDIS)
    refused = CliRunner().invoke(cache, command).exception
    assert str(refused) == "no database is given; set DATABASE_URL in the environment"
    assert done == []
