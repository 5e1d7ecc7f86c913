"""The first error says why no connection is made. Errors that waiting cannot cure are raised at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import psycopg_pool
import pytest

from cache.url_source import UrlSource
from db.errors import InvalidSetting, Unavailable
from db.settings import DatabaseSettings
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import answers, cache_settings, data_access, database_settings
from tests.promises import promise

NO_CACHE = cache_settings("redis://app:canary@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1)
# Far beyond the time that the test may take: a call that waits for its deadline is noticed.
LONG = 60.0
Mangle = Callable[[Database], str]


def _first_error(flavour: str, url: str, **changes: Any) -> Unavailable:
    """Return the first call's error, and check that the second has the same reason."""
    found = []
    with data_access(flavour, database_settings(url, **changes), NO_CACHE) as data:
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                data.users.list()
            found.append(caught.value)
    password = urlsplit(url).password
    for error in found:
        assert password is None or password not in str(error)
    assert found[0].sqlstate == found[1].sqlstate
    return found[0]


def _with(old: str, new: str) -> Mangle:
    return lambda database: database.url("app").replace(old, new, 1)


def _wrong_password(database: Database) -> str:
    url = database.url("app")
    return url.replace(str(urlsplit(url).password), "canary", 1)


def _wrong_database(database: Database) -> str:
    return database.url("app").replace(f"/{database.name}?", "/nowhere?", 1)


def _wrong_authority(database: Database) -> str:
    return database.url("app").partition("&sslrootcert=")[0] + "&sslrootcert=/nonexistent/ca.crt"


@promise("a call that waiting cannot help raises Unavailable at once, with the reason")
@pytest.mark.parametrize(
    ("mangle", "sqlstate", "reason"),
    [
        (_wrong_password, "28P01", 'password authentication failed for user "app_a"'),
        (_wrong_database, "3D000", 'database "nowhere" does not exist'),
        (_with("app_a", "nobody"), "28000", "pg_hba.conf rejects connection for host"),
        (_with("sslmode=verify-full", "sslmode=disable"), "28000", "pg_hba.conf rejects connection"),
        (_wrong_authority, None, "certificate"),
    ],
    ids=["password", "database", "user", "without TLS", "authority"],
)
def test_what_waiting_cannot_cure_fails_at_once(
    flavour: str, database: Database, mangle: Mangle, sqlstate: str | None, reason: str
) -> None:
    started = time.monotonic()
    error = _first_error(flavour, mangle(database), deadline_seconds=LONG)
    assert time.monotonic() - started < LONG / 2
    assert reason in str(error)
    assert error.sqlstate == sqlstate


@promise("a call that waiting cannot help raises Unavailable at once, with the reason", control=True)
def test_the_plain_pool_waits_and_gives_no_reason(database: Database) -> None:
    with psycopg_pool.ConnectionPool(_wrong_password(database), min_size=1, open=True) as pool:
        with pytest.raises(psycopg_pool.PoolTimeout) as caught:
            pool.getconn(timeout=3)
    assert "password" not in str(caught.value)


def test_an_expired_certificate_fails_at_once(flavour: str, expired_server: Server) -> None:
    error = _first_error(flavour, expired_server.database_url("app_a"), deadline_seconds=LONG)
    assert "certificate" in str(error)
    assert "renew" in str(error)


@promise("an error of getting a connection names the reason of the last attempt")
@pytest.mark.parametrize("pool_min_size", [0, 1])
def test_a_refused_port_is_named_when_the_deadline_passes(flavour: str, pool_min_size: int) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        url = f"postgresql://app:canary@127.0.0.1:{port}/x"
        error = _first_error(flavour, url, deadline_seconds=3.0, pool_min_size=pool_min_size)
    assert f"port {port} failed: Connection refused" in str(error)
    assert "within 3.0 s" in str(error)


@promise("an error of getting a connection names the reason of the last attempt")
def test_an_unknown_host_is_named_when_the_deadline_passes(flavour: str) -> None:
    error = _first_error(flavour, "postgresql://app:canary@nowhere.invalid/x", deadline_seconds=3.0)
    assert "nowhere.invalid" in str(error)
    assert "check the name of the host" in str(error)


@pytest.fixture
def crowded(database: Database) -> Iterator[Database]:
    """A database whose server allows each login of role app one connection, until the end of the test."""
    server = database.server
    server.psql("ALTER ROLE app_a CONNECTION LIMIT 1")
    yield database
    server.psql("ALTER ROLE app_a CONNECTION LIMIT 60")


@promise("an error of getting a connection names the reason of the last attempt")
def test_a_connection_limit_that_is_reached_is_named(flavour: str, crowded: Database) -> None:
    url = crowded.url("app_a")
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a'"
    # Those of the tests before have been closed.
    wait_until(lambda: crowded.psql(sessions).strip() == "0")
    with psycopg.connect(url):
        error = _first_error(flavour, url, deadline_seconds=3.0, pool_size=1)
    assert error.sqlstate == "53300"
    assert 'too many connections for role "app_a"' in str(error)
    assert "GROUNDWORK_POOL_SIZE" in str(error)


def test_a_full_pool_is_not_blamed_on_the_server(database: Database) -> None:
    settings = database_settings(database.url("app"), deadline_seconds=1.0, pool_size=1)
    with data_access("sync", settings, NO_CACHE) as data:
        wait_until(lambda: answers(data))
        with (
            data.pool.connection(data.pool.deadline()),
            pytest.raises(Unavailable, match="all are in use") as caught,
        ):
            data.users.list()
    assert caught.value.sqlstate is None


def test_closing_ends_the_wait_for_the_first_attempt(flavour: str) -> None:
    """The server accepts the connection and says nothing."""
    errors: list[Unavailable] = []

    def read(data: Any) -> None:
        try:
            data.users.list()
        except Unavailable as error:
            errors.append(error)

    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as sessions:
        url = f"postgresql://app:canary@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=120"
        with data_access(flavour, database_settings(url, deadline_seconds=LONG * 10), NO_CACHE) as data:
            reader = threading.Thread(target=read, args=[data], daemon=True)
            reader.start()
            session, _ = silent.accept()
            sessions.enter_context(session)
            time.sleep(0.2)
            # Inside the block, because the async call needs its event loop.
            data.close() if flavour == "sync" else data.aclose()
            reader.join(timeout=LONG)
    assert [("is closed" in str(error)) for error in errors] == [True]


def test_a_password_that_becomes_right_is_used(flavour: str, database: Database, tmp_path: Path) -> None:
    """The file is wrong at first. No new process is needed once it is right."""
    file = tmp_path / "url"
    file.write_text(_wrong_password(database))
    settings = DatabaseSettings(UrlSource("DATABASE_URL", InvalidSetting, file=file), deadline_seconds=30.0)
    with data_access(flavour, settings, NO_CACHE) as data:
        for _ in range(5):
            with pytest.raises(Unavailable, match="password authentication failed"):
                data.users.list()
        file.write_text(database.url("app"))
        wait_until(lambda: answers(data))


@promise("a pool that has connected rides through a rotation of its password")
def test_a_pool_rides_through_a_rotation_whose_file_comes_late(
    flavour: str, database: Database, tmp_path: Path
) -> None:
    """The login's sessions end and its password is refused before the file names the other login."""
    file = tmp_path / "url"
    file.write_text(database.url("app_a"))
    settings = DatabaseSettings(UrlSource("DATABASE_URL", InvalidSetting, file=file), deadline_seconds=60.0)
    with data_access(flavour, settings, NO_CACHE) as data:
        wait_until(lambda: answers(data))
        # The login is refused as with an old password, but for this database only.
        file.write_text(_wrong_password(database))
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'app_a' AND datname = current_database()"
        )
        wait_until(lambda: "password" in str(_refusal(data)))
        file_comes = _later(lambda: file.write_text(database.url("app_b")))
        assert data.users.list().items == []
        file_comes.join(timeout=60)


def _refusal(data: Any) -> object:
    return _target(data).pool._attempts.refusal


def _target(data: Any) -> Any:
    return getattr(data, "_target", data)


def _later(action: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(1.0, action)
    timer.start()
    return timer
