"""The log of an outage: a line for each reason and for the end, and not one for each attempt."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import psycopg_pool
import psycopg_pool.pool
import psycopg_pool.pool_async
import pytest

import db.outage_log
from cache.url_source import UrlSource
from db._sync.lending import Lender
from db.errors import InvalidSetting
from db.login import LoginAttempts
from db.outage_log import REPLACED
from db.settings import DatabaseSettings
from tests.containers import wait_until

REFUSED = psycopg.OperationalError("connection failed: Connection refused")
STARTING = psycopg.OperationalError("FATAL:  the database system is starting up")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(db.outage_log, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def attempts() -> LoginAttempts:
    return LoginAttempts("one", lambda: "", may_change=False, on_end=lambda: None)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that refuses connections: bound, but nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def fail(attempts: LoginAttempts, now: list[float], error: Exception, times: int) -> None:
    for _ in range(times):
        attempts.failed(error)
        now[0] += 0.125


def test_an_outage_is_one_line_for_each_reason_and_one_for_its_end(
    attempts: LoginAttempts, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for error in (REFUSED, STARTING, REFUSED):
        fail(attempts, now, error, 100)
    attempts.succeeded()
    attempts.succeeded()
    assert caplog.messages == [
        "cannot connect pool one to Postgres: Connection refused; check the host and the port, and that the server"
        " is up",
        "cannot connect pool one to Postgres (101 failed attempts in 12 s): the database system is starting up"
        " (57P03); wait until the server accepts connections",
        "pool one connects to Postgres again (300 failed attempts in 38 s)",
    ]


def test_a_long_outage_is_logged_once_a_minute(
    attempts: LoginAttempts, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    fail(attempts, now, REFUSED, 1000)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "cannot connect pool one to Postgres",
        "cannot connect pool one to Postgres (481 failed attempts in 60 s)",
        "cannot connect pool one to Postgres (961 failed attempts in 120 s)",
    ]


def test_attempts_of_which_every_second_one_fails_do_not_flood_the_log(
    attempts: LoginAttempts, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        fail(attempts, now, REFUSED, 1)
        attempts.succeeded()
    assert len(caplog.messages) == 2


def test_a_pool_logs_a_refused_connection_once(unused_port: int, caplog: pytest.LogCaptureFixture) -> None:
    url = f"postgresql://app@127.0.0.1:{unused_port}/groundwork"
    lender = Lender(
        DatabaseSettings(UrlSource("DATABASE_URL", InvalidSetting, url), pool_min_size=4), name="two"
    )
    with caplog.at_level(logging.DEBUG, "psycopg.pool"):
        lender.open()
        try:
            wait_until(lambda: sum("error connecting" in each for each in caplog.messages) >= 4)
        finally:
            lender.close()
    (warning,) = [record for record in caplog.records if record.levelno > logging.INFO]
    assert "cannot connect pool two to Postgres: " in warning.getMessage()
    assert "refused" in warning.getMessage()


def test_another_pool_of_the_program_logs_as_before(
    unused_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    conninfo = f"host=127.0.0.1 port={unused_port}"
    with psycopg_pool.ConnectionPool(conninfo, min_size=1, open=True, name="three"):
        wait_until(lambda: any("error connecting in 'three'" in each for each in caplog.messages))
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("module", [psycopg_pool.pool, psycopg_pool.pool_async])
def test_psycopg_pool_logs_what_we_replace(module: object) -> None:
    source = Path(module.__file__).read_text()  # type: ignore[attr-defined]
    assert all(f'"{text}"' in source for text in REPLACED)
