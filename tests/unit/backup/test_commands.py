"""The arguments of `restore` and `drill`, and what is refused before the stack is inspected."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from ops import cli
from ops.backup.errors import DamagedPages
from ops.backup.evidence import CHECKS, CheckFailed, Evidence
from ops.backup.moment import parse_moment
from ops.backup.pgbackrest import _error
from ops.backup.repository import Backup
from ops.backup.wal import Segment
from ops.commands.backup import _confirm
from ops.errors import Exit, OpsError
from tests.cases import in_case
from tests.unit.commands.test_foreign_text import STACK, UNLOCKED, answers


def test_a_point_in_time_is_latest_or_iso_with_a_time_zone() -> None:
    cases: list[tuple[str, datetime | None]] = [
        ("LATEST", None),
        ("latest", None),
        ("2026-03-01T02:50:00Z", datetime(2026, 3, 1, 2, 50, tzinfo=UTC)),
        ("2026-03-01T03:50:00+01:00", datetime(2026, 3, 1, 2, 50, tzinfo=UTC)),
    ]
    for text, moment in cases:
        with in_case(text, moment):
            assert parse_moment(text) == moment


def test_an_invalid_point_in_time_is_a_usage_error() -> None:
    cases: list[tuple[str, str]] = [
        ("yesterday", "is not a time"),
        ("2026-03-01T02:50:00", "has no time zone"),
        ("2026-03-01 02", "has no time zone"),
        ("2026-03-01", "has no time of day"),
        ("2026-03-01+01:00", "has no time of day"),
        ("2026-W09-7", "has no time of day"),
        ("2026-03-01Z", "is not a time"),
        ("0001-01-01T00:00:00+23:00", "is not a time"),
        ("2999-01-01T00:00:00Z", "in the future"),
        ("9999-12-31T23:00:00-23:00", "in the future"),
    ]
    for text, problem in cases:
        with in_case(text, problem):
            with pytest.raises(OpsError, match=problem) as refused:
                parse_moment(text)
            assert refused.value.exit_code == Exit.USAGE
            # What the message advises is accepted.
            for advised in re.findall(r"2026\S+(?:Z|\+01:00)\b", str(refused.value).partition("; ")[2]):
                parse_moment(advised)


def test_a_restore_without_a_terminal_needs_the_option_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(OpsError, match="without a terminal, pass --yes") as refused:
        _confirm("dev", "LATEST")
    assert refused.value.exit_code == Exit.REFUSED


def test_an_error_of_pgbackrest_is_reported_in_one_line() -> None:
    cases: list[tuple[str, list[str], str, Exit]] = [
        (
            "backup",
            ["P00  ERROR: [041]: unable to write '/var/lib/pgbackrest/x': [28] No space left on device"],
            "no space is left for the backup repository",
            Exit.ERROR,
        ),
        (
            "restore",
            ["ERROR: [041]: x: [28] No space left on device"],
            "no space is left for the restored data",
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
    ]
    for command, said, line, code in cases:
        with in_case(command, said, line, code):
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


def test_a_backup_with_damaged_pages_is_printed_although_the_command_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    segment = Segment(1, 1)
    made = Backup("20260501-F", "full", now, now, 1, 1, segment, segment, 0, "15-1", is_damaged=True)

    def fail(*_: object, **__: object) -> None:
        error = DamagedPages("the data is damaged")
        error.made = made
        raise error

    patches = STACK | {
        "ops.backup.rds.Instance.of": answers(None),
        "ops.backup.site.BackupSite.of": answers(None),
        "ops.backup.take_backup.take_backup": fail,
    }
    for name, value in patches.items():
        monkeypatch.setattr(name, value)
    with pytest.raises(SystemExit) as over:
        cli.main(["backup", "--json"])
    assert over.value.code == Exit.MISMATCH
    document = json.loads(capsys.readouterr().out)
    assert (document["label"], document["isDamaged"]) == ("20260501-F", True)


@pytest.mark.parametrize(
    ("is_interrupted", "said", "document"),
    [
        (False, ["no restore is in progress; nothing to do"], "none"),
        (True, ["the restore was abandoned"], "abandoned"),
    ],
)
def test_a_restore_is_only_reported_as_abandoned_if_there_was_one(
    is_interrupted: bool,
    said: list[str],
    document: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = SimpleNamespace(
        has_only_journal=answers(False),
        are_touched=answers(is_interrupted),
        refuse_past_return=answers(None),
        bring_back=answers(None),
    )
    patches = STACK | UNLOCKED | {
        "ops.backup.rds.Instance.of": answers(None),
        "ops.backup.site.BackupSite.of": answers(
            SimpleNamespace(exclusive=nullcontext, lock_file=Path("/no/such/lock"))
        ),
        "ops.backup.restore.require_volumes": answers(None),
        "ops.backup.restore._bench": answers(nullcontext()),
        "ops.backup.restore._folders": answers(folders),
        "ops.backup.servers.start": answers(None),
    }  # fmt: skip
    for name, value in patches.items():
        monkeypatch.setattr(name, value)
    for flags in ([], ["--json"]):
        with pytest.raises(SystemExit) as over:
            cli.main(["restore", "--abandon", *flags])
        assert over.value.code == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out[printed.out.index("{") :]) == {"restore": document}
    first, *_ = printed.out.partition("{")
    lines = [*first.splitlines(), *printed.err.splitlines()]
    assert [line for line in dict.fromkeys(lines) if not line.startswith("database: ")] == said
