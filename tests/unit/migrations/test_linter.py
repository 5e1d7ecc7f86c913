"""The lint findings in a plan: groundwork's rules and squawk's, assigned to the migrations that they are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import Migration, read_source
from ops.errors import OpsError
from ops.migrations import squawk
from ops.migrations.linter import lint


@pytest.fixture
def migrations(tmp_path: Path) -> tuple[Migration, ...]:
    files = {
        "1_a.up.sql": "CREATE TABLE a (id bigint PRIMARY KEY);\nALTER TABLE a ALTER id TYPE text;\n",
        "1_a.down.sql": "BEGIN;\nDROP TABLE a;\n",
        "2_b.up.sql": "SELECT 1;\n",
        "2_b.down.sql": "SELECT 1;\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tuple(read_source(tmp_path))


def test_findings_of_both_linters_are_assigned_to_their_migrations(
    migrations: tuple[Migration, ...],
) -> None:
    linted = lint(migrations)
    assert linted.has_squawk
    assert [(each.file, each.line, each.rule) for each in linted.findings[1]] == [
        ("1_a.down.sql", 1, "transaction-control"),
        ("1_a.up.sql", 1, "missing-grant"),
        ("1_a.up.sql", 2, "changing-column-type"),
    ]
    assert linted.findings[2] == ()


def test_without_squawk_groundworks_own_rules_are_applied(
    migrations: tuple[Migration, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squawk, "is_installed", lambda: False)
    linted = lint(migrations)
    assert not linted.has_squawk
    assert [each.rule for each in linted.findings[1]] == ["transaction-control", "missing-grant"]


def test_without_migrations_there_are_no_findings() -> None:
    assert lint(()).findings == {}


def test_rules_that_are_switched_off_are_not_applied(migrations: tuple[Migration, ...]) -> None:
    linted = lint(migrations, {"transaction-control"})
    assert [each.rule for each in linted.findings[1]] == ["transaction-control", "changing-column-type"]


def test_a_broken_link_to_squawks_settings_is_refused(
    migrations: tuple[Migration, ...], tmp_path: Path
) -> None:
    (tmp_path / ".squawk.toml").symlink_to("gone.toml")
    with pytest.raises(OpsError, match=r"\.squawk\.toml is a link to a file that does not exist"):
        lint(migrations)
