"""`make pr-report`: the commands that it runs. Failures appear in the comment, and do not prevent it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.pull_request.comment import MARKER
from scripts import pull_request_report
from tests.unit.pull_request import inputs

# Replaces `groundwork`: prints the file named after its first arguments, or fails. The report itself is the real one.
STAND_IN = """
import pathlib, subprocess, sys
folder, words = pathlib.Path(sys.argv[1]), sys.argv[2:]
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(words) + "\\n")
if words[0] == "report":
    sys.exit(subprocess.run([sys.executable, "-m", "ops.cli", *words]).returncode)
stack = [word for before, word in zip(words, words[1:]) if before == "--stack"]
name = "-".join([*words[:1 + (words[0] != "preview")], *stack])
if not (folder / name).exists():
    sys.exit("no " + name)
print((folder / name).read_text())
"""
Make = Callable[..., tuple[int, str]]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """The output of the stand-in, by file."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "preview-prod").write_text(inputs.preview(inputs.step("create", "new")))
    (folder / "policy-check").write_text(inputs.assessment("policy"))
    (folder / "policy-firewall").write_text(inputs.assessment("firewall"))
    (folder / "migrate-plan").write_text(inputs.plan(inputs.migration(10, inputs.statement("SELECT 1"))))
    return folder


@pytest.fixture
def make(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    script = tmp_path / "groundwork.py"
    script.write_text(STAND_IN)
    built = tmp_path / "build"
    monkeypatch.setattr(pull_request_report, "FOLDER", built)
    monkeypatch.setattr(pull_request_report, "GROUNDWORK", (sys.executable, str(script), str(given)))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        code = pull_request_report.main([*(arguments or ("prod",)), "--base", "HEAD"])
        return code, (built / "comment.md").read_text()

    return run


def test_the_comment_contains_all_findings(make: Make) -> None:
    code, text = make()
    assert code == 0
    assert text.startswith(MARKER)
    assert "| `prod` | 1 new | all satisfied | no loss |" in text
    assert "0010_what" in text


def test_migrations_above_the_bases_newest_are_planned(make: Make, given: Path) -> None:
    make()
    newest = max(int(path.name[:4]) for path in (Path("db") / "migrations").glob("*.up.sql"))
    assert f"migrate plan --above {newest} --json" in (given / "calls").read_text().splitlines()


def test_a_failed_preview_is_in_the_comment(make: Make, given: Path) -> None:
    (given / "preview-prod").unlink()
    (given / "policy-check").unlink()
    (given / "policy-firewall").unlink()
    code, text = make()
    assert code == 1
    assert "| `prod` | **preview failed** | not checked | not checked |" in text


def test_a_failed_stack_does_not_affect_the_others(make: Make, given: Path) -> None:
    (given / "policy-check").unlink()
    (given / "policy-firewall").unlink()
    code, text = make("staging", "prod")
    assert code == 1
    assert "| `prod` | 1 new |" in text
    assert "| `staging` | **preview failed** |" in text


def test_a_data_loss_determines_the_exit_code(make: Make, given: Path) -> None:
    (given / "policy-firewall").write_text(inputs.assessment("firewall", inputs.finding()))
    assert make()[0] == 7


def test_a_failed_plan_is_reported(make: Make, given: Path) -> None:
    (given / "migrate-plan").unlink()
    assert "Migrations: not planned" in make()[1]


def test_files_of_an_earlier_run_are_deleted(make: Make) -> None:
    pull_request_report.FOLDER.mkdir(parents=True)
    stale = pull_request_report.FOLDER / "gone.check.sarif"
    stale.write_text("{}")
    make()
    assert not stale.exists()


def test_the_jobs_summary_contains_the_comment(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    _, text = make()
    assert (tmp_path / "summary.md").read_text() == text


def test_without_the_base_commit_there_is_no_plan(make: Make, given: Path) -> None:
    assert pull_request_report._of_migrations("nowhere") == []


def test_make_runs_it_for_dev_by_default() -> None:
    shown = subprocess.run(["make", "--dry-run", "pr-report"], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1].split()[-3:] == ["-m", "scripts.pull_request_report", "dev"]
