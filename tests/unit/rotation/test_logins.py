"""How a failed test of a new Postgres password is classified. tests/integration/rotation has it with servers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from ops.errors import Exit, OpsError
from ops.rotation.logins import try_out
from tests.cases import in_case

FAILED = 'connection failed: connection to server at "::1", port 5432 failed: FATAL:  '


def _try_out(monkeypatch: pytest.MonkeyPatch, role: str, reason: str, *, old_is_void: bool = False) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError(FAILED + reason)

    monkeypatch.setattr("db.session.connect", refuse)
    stack = SimpleNamespace(name="dev", urls=lambda: ({role: "postgresql://x"}, {}))
    try_out(cast(Any, stack), [role], old_is_void=old_is_void)


def test_a_limit_that_is_checked_after_the_password_proves_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for reason in (
        'too many connections for role "app_b"',
        'too many connections for database "groundwork"',
        "remaining connection slots are reserved for non-replication superuser connections",
    ):
        with in_case(reason):
            _try_out(monkeypatch, "app", reason)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ('password authentication failed for user "app_b"', Exit.ERROR),
        ('role "app_b" is not permitted to log in', Exit.ERROR),
        ("sorry, too many clients already", Exit.UNREACHABLE),
        ("the database system is starting up", Exit.UNREACHABLE),
    ],
)
def test_another_failure_keeps_the_old_password(
    monkeypatch: pytest.MonkeyPatch, reason: str, code: Exit
) -> None:
    with pytest.raises(OpsError) as raised:
        _try_out(monkeypatch, "app", reason)
    assert raised.value.exit_code == code
    assert reason in str(raised.value)
    assert "; the old password is still accepted; fix the cause, then" in str(raised.value)


def test_a_failure_after_the_last_step_does_not_call_the_old_password_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(OpsError, match="; the old password is revoked; fix the cause, then"):
        _try_out(monkeypatch, "app", "the database system is starting up", old_is_void=True)


def test_the_former_password_of_a_role_with_one_login_is_not_called_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(OpsError) as raised:
        _try_out(monkeypatch, "migrator", "the database system is starting up")
    assert str(raised.value).endswith(
        "; the former password of migrator is no longer accepted; only groundwork uses it; fix the cause, then run this"
        " command again"
    )
