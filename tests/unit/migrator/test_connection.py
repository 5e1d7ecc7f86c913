"""What a connection reports while it waits because the server has no free one."""

from __future__ import annotations

import psycopg
import pytest

from db.migrator import connection
from db.migrator.errors import InvalidUrl, Unreachable
from ops.commands.migrator_options import exit_codes
from ops.errors import Exit, OpsError


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ('FATAL:  too many connections for role "app"', "the CONNECTION LIMIT of the role"),
        ('FATAL:  too many connections for database "shop"', "the CONNECTION LIMIT of the database"),
        ("FATAL:  sorry, too many clients already", "max_connections"),
    ],
)
def test_the_wait_for_a_free_connection_is_reported_once_with_its_limit(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], message: str, limit: str
) -> None:
    left = [psycopg.OperationalError(message)] * 3 + [psycopg.OperationalError("Connection refused")]

    def refuse(*arguments: object, **options: object) -> None:
        raise left.pop(0)

    monkeypatch.setattr(psycopg, "connect", refuse)
    monkeypatch.setattr(connection, "_SLOT_PAUSE_SECONDS", (0.0, 0.0))
    with pytest.raises(OpsError, match="Connection refused") as refused:
        with exit_codes(), connection.open_connection("host=localhost"):
            pass
    out, err = capfd.readouterr()
    assert (out, left, refused.value.exit_code) == ("", [], Exit.UNREACHABLE)
    (line,) = err.splitlines()
    assert line.startswith(f"the database has no free connection, because {limit}")
    assert line.endswith("waiting up to 30 s for one")


def test_another_refusal_is_not_waited_for_and_a_library_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    left = [psycopg.OperationalError("too many connections for role"), psycopg.OperationalError("refused")]

    def refuse(*arguments: object, **options: object) -> None:
        raise left.pop(0)

    monkeypatch.setattr(psycopg, "connect", refuse)
    monkeypatch.setattr(connection, "_SLOT_PAUSE_SECONDS", (0.0, 0.0))
    with pytest.raises(Unreachable, match="refused"):
        with connection.open_connection("host=localhost"):
            pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", ["10s", "1.5", "1_0", "ten", "%D9%A3", "99999999999"])
def test_a_connect_timeout_that_is_not_a_number_is_an_invalid_url(value: str) -> None:
    with pytest.raises(InvalidUrl, match="connect_timeout of the database URL is"):
        connection.require_login(f"postgresql://localhost:1/x?connect_timeout={value}")
    with pytest.raises(Unreachable):
        connection.require_login("postgresql://localhost:1/x?connect_timeout=%20+1")
