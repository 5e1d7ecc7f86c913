"""`groundwork migrate lint`: groundwork's rules and squawk's together, without a database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.commands.migrate import migrate
from ops.errors import Exit, OpsError


@pytest.fixture
def lint(tmp_path: Path) -> Path:
    (tmp_path / "1_a.up.sql").write_text(
        "ALTER TABLE t DROP COLUMN a;\nALTER TABLE t ADD COLUMN b char(3);\n"
    )
    (tmp_path / "1_a.down.sql").write_text("SELECT 1;\n")
    (tmp_path / "2_b.up.sql").write_text("SELECT 1;\n")
    (tmp_path / "2_b.down.sql").write_text("SELECT 1;\n")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(migrate, ["lint", *arguments])


def test_findings_of_groundwork_and_squawk_are_listed_by_line_and_exit_with_4(lint: Path) -> None:
    result = run("--folder", str(lint))
    assert result.exit_code == Exit.MISMATCH
    first, second = result.stdout.splitlines()
    assert first.startswith("1_a.up.sql:1: contract-in-expand: running code may still use column t.a;")
    assert second.startswith("1_a.up.sql:2: ban-char-field: ")


@pytest.mark.parametrize("name", ["a[1]", "a*"])
def test_a_folder_whose_name_looks_like_a_pattern_is_linted_alone(lint: Path, name: str) -> None:
    for folder in (lint / name, lint / "ab"):
        folder.mkdir()
        (folder / "1_a.up.sql").write_text("ALTER TABLE t ADD COLUMN b char(3);\n")
        (folder / "1_a.down.sql").write_text("SELECT 1;\n")
    assert run("--folder", str(lint / name)).stdout.startswith("1_a.up.sql:1: ban-char-field: ")


def test_findings_in_json(lint: Path) -> None:
    said = json.loads(run("--folder", str(lint), "--json").stdout)
    assert said["migrations"] == 2
    assert [(f["file"], f["line"], f["rule"]) for f in said["findings"]] == [
        ("1_a.up.sql", 1, "contract-in-expand"),
        ("1_a.up.sql", 2, "ban-char-field"),
    ]


def test_a_version_is_looked_at_alone(lint: Path) -> None:
    assert run("2", "--folder", str(lint)).exit_code == Exit.FINE


def test_without_squawk_our_rules_are_applied_alone(lint: Path) -> None:
    said = json.loads(run("--folder", str(lint), "--json", "--no-squawk").stdout)
    assert [f["rule"] for f in said["findings"]] == ["contract-in-expand"]


def test_squawk_does_not_report_the_purpose_of_a_contract_migration(lint: Path) -> None:
    path = lint / "1_a.up.sql"
    path.write_text("-- phase: contract\nALTER TABLE t DROP COLUMN a;\n")
    assert run("--folder", str(lint)).exit_code == Exit.FINE


def test_a_missing_squawk_is_an_error(lint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(lint / "python"))
    result = run("--folder", str(lint))
    assert isinstance(result.exception, OpsError)
    assert "squawk is not installed" in str(result.exception)


def test_a_version_that_no_file_has_is_refused_with_2(lint: Path) -> None:
    result = run("9", "--folder", str(lint))
    assert isinstance(result.exception, OpsError)
    assert result.exception.exit_code == Exit.USAGE


def test_our_own_migrations_are_clean() -> None:
    assert run().exit_code == Exit.FINE


def test_rules_are_chosen_by_options(lint: Path) -> None:
    (lint / "V1__x.sql").write_text("SELECT 1")
    found = run("--folder", str(lint), "--no-squawk", "--json")
    assert [f["rule"] for f in json.loads(found.stdout)["findings"]] == ["contract-in-expand", "file-name"]
    found = run(
        "--folder", str(lint), "--no-squawk", "--disable", "file-name", "--disable", "contract-in-expand"
    )
    assert "does not begin with a version" in str(found.exception)
    found = run("--folder", str(lint), "--rule", "file-name", "--json")
    assert [f["file"] for f in json.loads(found.stdout)["findings"]] == ["V1__x.sql"]


@pytest.mark.parametrize("option", ["--rule", "--disable"])
def test_an_unknown_rule_is_refused(lint: Path, option: str) -> None:
    result = run("--folder", str(lint), option, "missing-doom")
    assert isinstance(result.exception, OpsError)
    assert (result.exception.exit_code, "there is no lint rule 'missing-doom'" in str(result.exception)) == (
        Exit.USAGE,
        True,
    )
