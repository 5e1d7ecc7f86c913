"""`make pr-report`: the commands that it runs. Failures appear in the comment, and do not prevent it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


def give(folder: Path) -> Path:
    """Write the output of the stand-in, by file."""
    folder = folder / "given"
    folder.mkdir()
    (folder / "preview-prod").write_text(inputs.preview(inputs.step("create", "new")))
    (folder / "policy-check").write_text(inputs.assessment("policy"))
    (folder / "policy-firewall").write_text(inputs.assessment("firewall"))
    (folder / "migrate-plan").write_text(inputs.plan(inputs.migration(10, inputs.statement("SELECT 1"))))
    return folder


def maker(given: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    script = given.parent / "groundwork.py"
    script.write_text(STAND_IN)
    built = given.parent / "build"
    monkeypatch.setattr(pull_request_report, "FOLDER", built)
    monkeypatch.setattr(pull_request_report, "GROUNDWORK", (sys.executable, str(script), str(given)))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        code = pull_request_report.main([*(arguments or ("prod",)), "--base", "HEAD"])
        return code, (built / "comment.md").read_text()

    return run


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return give(tmp_path)


@pytest.fixture
def make(given: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    return maker(given, monkeypatch)


@dataclass(frozen=True)
class Report:
    """A run without a failure, with a file of an earlier run."""

    given: Path
    code: int
    text: str
    stale: Path
    summary: Path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    given = give(tmp_path_factory.mktemp("report"))
    summary = given.parent / "summary.md"
    with pytest.MonkeyPatch.context() as monkeypatch:
        make = maker(given, monkeypatch)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        pull_request_report.FOLDER.mkdir(parents=True)
        stale = pull_request_report.FOLDER / "gone.check.sarif"
        stale.write_text("{}")
        yield Report(given, *make(), stale, summary)


def test_the_comment_contains_all_findings(report: Report) -> None:
    code, text = report.code, report.text
    assert code == 0
    assert text.startswith(MARKER)
    assert "| `prod` | 1 new | all satisfied | no loss |" in text
    assert "0010_what" in text


def test_migrations_that_the_base_lacks_are_planned(report: Report) -> None:
    versions = sorted(int(path.name[:4]) for path in (Path("db") / "migrations").glob("*.up.sql"))
    applied = " ".join(f"--applied={version}" for version in versions)
    assert f"migrate plan {applied} --json" in (report.given / "calls").read_text().splitlines()


def test_a_migration_that_is_deleted_is_not_named(
    make: Make, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = (Path("db") / "migrations").glob("0001_*.up.sql")
    listed = f"{kept}\ndb/migrations/9999_deleted.up.sql\n"
    monkeypatch.setattr(pull_request_report, "git", lambda *arguments: listed.encode())
    make()
    assert "migrate plan --applied=1 --json" in (given / "calls").read_text().splitlines()


def test_a_failed_preview_is_in_the_comment(make: Make, given: Path) -> None:
    (given / "preview-prod").unlink()
    (given / "policy-check").unlink()
    (given / "policy-firewall").unlink()
    code, text = make()
    assert code == 1
    assert "| `prod` | **preview failed** | not checked | not checked |" in text


@pytest.mark.parametrize("cut", [1, -1])
def test_a_preview_that_was_cut_off_is_a_failed_preview(make: Make, given: Path, cut: int) -> None:
    whole = (given / "preview-prod").read_text()
    (given / "preview-prod").write_text(whole[:cut])
    (given / "policy-check").unlink()
    (given / "policy-firewall").unlink()
    code, text = make()
    assert code == 1
    assert "**A preview failed, so this comment is incomplete.**" in text
    assert "| `prod` | **preview failed** | not checked | not checked |" in text


@pytest.mark.parametrize("name", ["policy-check", "policy-firewall", "migrate-plan"])
def test_a_result_that_was_cut_off_is_a_check_that_did_not_run(make: Make, given: Path, name: str) -> None:
    (given / name).write_text((given / name).read_text()[:-1])
    code, text = make()
    assert code == 1
    assert f"**A check did not run, so this comment is incomplete:** `{name.replace('-', ' ')}`" in text


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
    code, text = make()
    assert code == 1
    assert "**A check did not run, so this comment is incomplete:** `migrate plan`." in text
    assert "Migrations: not planned" in text


@pytest.mark.parametrize("command", ["check", "firewall"])
def test_a_failed_check_is_reported(make: Make, given: Path, command: str) -> None:
    (given / f"policy-{command}").unlink()
    code, text = make()
    assert code == 1
    assert f"**A check did not run, so this comment is incomplete:** `policy {command}` of `prod`." in text
    assert "Nothing is refused" not in text


def test_files_of_an_earlier_run_are_deleted(report: Report) -> None:
    assert not report.stale.exists()


def test_the_jobs_summary_contains_the_comment(report: Report) -> None:
    assert report.summary.read_text() == report.text


def test_without_the_base_commit_there_is_no_plan(make: Make, given: Path) -> None:
    assert pull_request_report._of_migrations("nowhere") == []


def test_make_runs_it_for_dev_by_default() -> None:
    shown = subprocess.run(["make", "--dry-run", "pr-report"], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1].split()[-3:] == ["-m", "scripts.pull_request_report", "dev"]
