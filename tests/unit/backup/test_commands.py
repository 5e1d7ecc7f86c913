"""The arguments of `restore` and `drill`, and what is refused before the stack is inspected."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ops.backup.evidence import CHECKS, CheckFailed, Evidence
from ops.backup.moment import parse_moment
from ops.backup.pgbackrest import _error
from ops.commands.backup import _confirm
from ops.errors import Exit, OpsError


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("LATEST", None),
        ("latest", None),
        ("2026-03-01T02:50:00Z", datetime(2026, 3, 1, 2, 50, tzinfo=UTC)),
        ("2026-03-01T03:50:00+01:00", datetime(2026, 3, 1, 2, 50, tzinfo=UTC)),
    ],
)
def test_a_point_in_time_is_latest_or_iso_with_a_time_zone(text: str, moment: datetime | None) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("yesterday", "is not a time"),
        ("2026-03-01T02:50:00", "has no time zone"),
        ("2999-01-01T00:00:00Z", "in the future"),
    ],
)
def test_an_invalid_point_in_time_is_a_usage_error(text: str, problem: str) -> None:
    with pytest.raises(OpsError, match=problem) as refused:
        parse_moment(text)
    assert refused.value.exit_code == Exit.USAGE


def test_a_restore_without_a_terminal_needs_the_option_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(OpsError, match="without a terminal, pass --yes") as refused:
        _confirm("dev", "LATEST")
    assert refused.value.exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    ("command", "said", "line", "code"),
    [
        (
            "backup",
            ["P00  ERROR: [041]: unable to write '/var/lib/pgbackrest/x': [28] No space left on device"],
            "no space is left for the backup repository",
            Exit.ERROR,
        ),
        (
            "restore",
            ["ERROR: [041]: x: [28] No space left on device"],
            "no space is left for the data volume",
            Exit.ERROR,
        ),
        (
            "backup",
            ["P00  ERROR: [050]: unable to acquire lock"],
            "another backup is in progress",
            Exit.LOCKED,
        ),
        ("backup", ["Error: No such container: gw-x"], "does not run", Exit.UNREACHABLE),
        ("backup", ["P00  ERROR: [051]: system-id do not match", "HINT: x"], "another cluster", Exit.ERROR),
        ("info", ["P00  ERROR: [031]: what", "     HINT: who"], "`pgbackrest info` failed: what", Exit.ERROR),
        ("info", [], "no reason given", Exit.ERROR),
    ],
)
def test_an_error_of_pgbackrest_is_reported_in_one_line(
    command: str, said: list[str], line: str, code: Exit
) -> None:
    error = _error(command, "gw-x", said)
    assert line in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == code


def test_a_drill_is_ok_only_if_every_check_ran_and_passed() -> None:
    evidence = Evidence("dev", datetime.now(UTC))
    for name in CHECKS[:-1]:
        with evidence.check(name, lambda line: None, ""):
            pass
    assert not evidence.ok
    with evidence.check(CHECKS[-1], lambda line: None, ""):
        pass
    assert evidence.ok
    said: list[str] = []
    with evidence.check("wal", said.append, "looking"):
        raise CheckFailed("a file\nis missing")
    assert not evidence.ok
    assert said == ["looking", "FAILED wal: a file is missing"]
    (wal,) = (c for c in evidence.document()["checks"] if c["check"] == "wal")
    assert (wal["ok"], wal["detail"]) == (False, "a file is missing")


def test_a_programming_error_in_a_check_is_not_a_failed_check() -> None:
    evidence = Evidence("dev", datetime.now(UTC))
    with pytest.raises(KeyError):
        with evidence.check("wal", lambda line: None, ""):
            raise KeyError("a defect")
    assert evidence.checks["wal"].ok is None
