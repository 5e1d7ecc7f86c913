"""Failed attempts to connect: their reason, SQLSTATE, whether waiting helps, and the pauses between attempts."""

from __future__ import annotations

from itertools import pairwise

import psycopg
import pytest

import db.login
from db.errors import InvalidSetting
from db.login import LoginAttempts, refusal_of
from tests.cases import in_case

AT = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


def test_the_reason_of_a_refusal() -> None:
    cases: list[tuple[str, str | None, bool, str]] = [
        ('FATAL:  password authentication failed for user "app_a"', "28P01", True, "password"),
        ("fe_sendauth: no password supplied", "28P01", True, "password"),
        ('FATAL:  database "nowhere" does not exist', "3D000", True, "database"),
        ('FATAL:  role "nobody" does not exist', "28000", True, "user"),
        ('FATAL:  role "app_a" is not permitted to log in', "28000", True, "user"),
        ('FATAL:  PAM authentication failed for user "app"', "28000", True, "user"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "x"', "28000", True, "pg_hba.conf"),
        ('FATAL:  permission denied for database "x"', "42501", True, "CONNECT"),
        ("SSL error: certificate verify failed", None, True, "sslrootcert"),
        ('server certificate for "a" does not match host name "b"', None, True, "sslrootcert"),
        ("server does not support SSL, but SSL was required", None, True, "sslmode"),
        ('FATAL:  too many connections for role "app_a"', "53300", False, "limit"),
        ("FATAL:  sorry, too many clients already", "53300", False, "limit"),
        ("FATAL:  the database system is starting up", "57P03", False, "wait"),
        ("server is in hot standby mode", None, False, "target_session_attrs"),
        ("server is not in hot standby mode", None, False, "target_session_attrs"),
        ("Connection refused\n\tIs the server running on that host?", None, False, "port"),
        ("server closed the connection unexpectedly", None, False, "port"),
    ]
    for said, sqlstate, is_final, fix in cases:
        with in_case(said, sqlstate, is_final, fix):
            refusal = refusal_of(psycopg.OperationalError(f"{AT}{said}"))
            assert (refusal.sqlstate, refusal.is_final) == (sqlstate, is_final)
            assert fix in refusal.fix
            assert said.removeprefix("FATAL:  ").partition("\n")[0] in refusal.reason
            assert "\n" not in str(refusal)
            assert "FATAL" not in refusal.reason


def test_of_several_servers_the_one_that_will_answer_counts() -> None:
    error = psycopg.OperationalError(
        f"{AT}Connection refused\nMultiple connection attempts failed. All failures were:\n"
        f'- host: a: {AT}FATAL:  password authentication failed for user "u"\n- host: b: {AT}Connection refused'
    )
    assert refusal_of(error).sqlstate == "28P01"
    starting = psycopg.OperationalError(f"{error}\n- host: c: {AT}FATAL:  the database system is starting up")
    assert refusal_of(starting).sqlstate == "57P03"
    assert not refusal_of(starting).is_final


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("PGTZ", f'{AT}FATAL:  invalid value for parameter "TimeZone": "Mars"'),
        ("PGDATESTYLE", f'{AT}FATAL:  invalid value for parameter "DateStyle": "Mars"'),
        ("PGSERVICE", 'connection is bad: definition of service "Mars" not found'),
    ],
)
def test_a_variable_that_no_parameter_overrides_is_named(
    variable: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unset" not in str(refusal_of(psycopg.OperationalError(said)))
    monkeypatch.setenv(variable, "Mars")
    refusal = refusal_of(psycopg.OperationalError(said))
    assert (refusal.fix, refusal.is_final) == (f"unset {variable}", True)


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(db.login, "monotonic", clock)
    return clock


class _Source:
    text = "first"

    def __call__(self) -> str:
        return self.text


WRONG = psycopg.OperationalError(f'{AT}FATAL:  password authentication failed for user "u"')
REFUSED = psycopg.OperationalError(f"{AT}Connection refused")


def _attempts(source: _Source, *, may_change: bool = False) -> LoginAttempts:
    return LoginAttempts("one", source, may_change=may_change, on_end=lambda: None)


def test_repeated_logins_with_a_wrong_password_back_off(clock: _Clock) -> None:
    source, sent = _Source(), []
    attempts = _attempts(source)
    for _ in range(3000):
        try:
            attempts.start()
        except psycopg.OperationalError:
            pass
        else:
            sent.append(clock.now - 100)
            attempts.failed(WRONG)
        clock.now += 0.1
    assert len(sent) < 20
    assert max(later - earlier for earlier, later in pairwise(sent)) < 31
    # Another password is tried at once.
    source.text = "second"
    attempts.start()
    attempts.succeeded()
    attempts.start()


def test_attempts_that_waiting_may_cure_are_not_postponed(clock: _Clock) -> None:
    attempts = _attempts(_Source())
    for _ in range(10):
        attempts.start()
        attempts.failed(REFUSED)
        assert attempts.hopeless() is None
    attempts.failed(InvalidSetting("DATABASE_URL_FILE: cannot read /x: no such file"))
    assert attempts.refusal is not None
    assert "cannot read /x" in str(attempts.refusal)
    attempts.start()


def test_a_login_that_worked_may_have_been_rotated(clock: _Clock) -> None:
    source = _Source()
    attempts = _attempts(source, may_change=True)
    attempts.start()
    attempts.failed(WRONG)
    assert attempts.hopeless() is not None
    clock.now += 1.5
    attempts.start()
    attempts.succeeded()
    assert not attempts.is_in_doubt
    attempts.failed(WRONG)
    assert attempts.hopeless() is None
    clock.now += db.login.ROTATION_SECONDS + 1
    assert attempts.hopeless() is not None
    # The file has another connection string by now, which has not been tried yet.
    source.text = "second"
    assert attempts.hopeless() is None
    attempts.start()


def test_a_login_that_cannot_change_is_not_waited_for(clock: _Clock) -> None:
    attempts = _attempts(_Source())
    attempts.start()
    attempts.succeeded()
    attempts.failed(WRONG)
    assert attempts.hopeless() is not None


def test_an_old_refusal_is_not_the_reason_of_a_full_pool(clock: _Clock) -> None:
    attempts = _attempts(_Source())
    attempts.start()
    attempts.failed(REFUSED)
    assert attempts.reason(8.0) is attempts.refusal
    clock.now += 60
    assert attempts.reason(8.0) is None
    attempts.failed(WRONG)
    clock.now += 60
    assert attempts.reason(8.0) is attempts.refusal
    attempts.succeeded()
    assert attempts.reason(8.0) is None
