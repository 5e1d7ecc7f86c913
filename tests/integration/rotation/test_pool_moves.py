"""Pools follow the file with their connection string, so that the old login has no sessions before it is disabled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.url_source import UrlSource
from db.errors import InvalidSetting
from db.models import NewUser
from db.settings import DatabaseSettings
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.integration.serve.service import running_service
from tests.promises import promise

LONG = 3600.0


@pytest.fixture
def url_file(tmp_path: Path, database: Database) -> Path:
    path = tmp_path / "database_url"
    _write(path, database.url("app_a"))
    return path


@pytest.fixture
def moving(flavour: str, url_file: Path, redis_server: Server, namespace: str) -> Iterator[Any]:
    """A data access that reads its URL from a file, and whose connections would live for an hour."""
    source = UrlSource("DATABASE_URL", InvalidSetting, file=url_file)
    settings = DatabaseSettings(source, pool_size=2, pool_min_size=2, max_lifetime_seconds=LONG)
    with data_access(flavour, settings, cache_settings(redis_server.redis_url("app"), namespace)) as data:
        yield data


@pytest.fixture
def let_it_look(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that waits until a pool has looked for a new URL and acted on it. It looks once a second."""
    read, looks = UrlSource.read, []

    def counted(source: UrlSource) -> str:
        looks.append(source.variable)
        return read(source)

    def wait() -> None:
        # A look may be under way already. The third one begins after the second one has ended.
        before = looks.count("DATABASE_URL")
        wait_until(lambda: looks.count("DATABASE_URL") >= before + 3, 60)

    monkeypatch.setattr(UrlSource, "read", counted)
    return wait


def _write(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.replace(path)


def _sessions(database: Database) -> set[str]:
    sql = f"SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = '{database.name}' AND usename LIKE 'app%'"
    return set(database.server.psql(sql).split())


@promise("a rotated password is read from its file without a restart")
def test_a_pool_moves_to_the_login_of_its_file(moving: Any, url_file: Path, database: Database) -> None:
    user = moving.users.upsert(NewUser(github_id=1, username="before"))
    wait_until(lambda: _sessions(database) == {"app_a"})
    _write(url_file, database.url("app_b"))
    wait_until(lambda: _sessions(database) == {"app_b"})
    assert moving.users.upsert(NewUser(github_id=1, username="after")).id == user.id


def test_a_file_that_is_gone_or_empty_for_a_while_costs_no_connection(
    let_it_look: Callable[[], None], moving: Any, url_file: Path, database: Database
) -> None:
    moving.users.upsert(NewUser(github_id=1, username="before"))
    pids = _all_pids(database)
    url_file.write_text("")
    let_it_look()
    url_file.unlink()
    let_it_look()
    assert moving.users.find_by_github_id(1).username == "before"
    _write(url_file, database.url("app_a"))
    let_it_look()
    assert _pids(database) == pids


def _all_pids(database: Database) -> set[str]:
    """Return the sessions of a pool of two, once it has opened both: it opens the second one in the background."""
    wait_until(lambda: len(_pids(database)) == 2)
    return _pids(database)


def _pids(database: Database) -> set[str]:
    sql = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database.name}' AND usename LIKE 'app%'"
    return set(database.server.psql(sql).split())


def test_a_pool_with_a_fixed_url_does_not_switch(
    let_it_look: Callable[[], None], flavour: str, database: Database, redis_server: Server, namespace: str
) -> None:
    """The control: only a changed file makes a pool switch."""
    settings = database_settings(
        database.url("app_a"), pool_size=2, pool_min_size=2, max_lifetime_seconds=LONG
    )
    with data_access(flavour, settings, cache_settings(redis_server.redis_url("app"), namespace)) as data:
        data.users.upsert(NewUser(github_id=1, username="x"))
        pids = _all_pids(database)
        let_it_look()
        assert _pids(database) == pids


@promise("the access service switches to a rotated password")
def test_the_access_service_moves_with_its_listener(
    url_file: Path, database: Database, redis_server: Server, namespace: str
) -> None:
    with running_service(
        DATABASE_URL_FILE=str(url_file),
        REDIS_URL=redis_server.redis_url("app"),
        GROUNDWORK_CACHE_NAMESPACE=namespace,
    ) as service:
        wait_until(service.is_ready, 60)
        assert _sessions(database) == {"app_a"}
        _write(url_file, database.url("app_b"))
        wait_until(lambda: _sessions(database) == {"app_b"}, 60)
        assert service.is_ready()
