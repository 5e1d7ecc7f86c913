"""What lint contributes to a plan: our own rules and squawk's, by the migration whose files they are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import Migration, read_source
from ops import squawk
from ops.migration_review.linter import lint


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


def test_our_rules_and_squawks_are_told_of_the_files_they_are_about(
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


def test_without_squawk_our_own_rules_are_applied(
    migrations: tuple[Migration, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squawk, "is_installed", lambda: False)
    linted = lint(migrations)
    assert not linted.has_squawk
    assert [each.rule for each in linted.findings[1]] == ["transaction-control", "missing-grant"]


def test_nothing_is_found_of_no_migration() -> None:
    assert lint(()).findings == {}
