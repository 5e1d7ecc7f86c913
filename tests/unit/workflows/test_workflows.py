"""The workflows: their permissions and commands. Any change of these must change this test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings.aws import AwsSettings
from tests.cases import in_case
from tests.promises import promise
from tests.unit.documentation.pages import ROOT
from tests.unit.documentation.test_pages import declared_targets

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# The workflows whose commands are make targets. ci.yml calls .ci/run, which another test checks.
OURS = [file for file in FILES if file.name != "ci.yml"]
EVENTS = {
    "audit.yml": {"push", "schedule", "workflow_dispatch"},
    "aws-provider.yml": {"push", "schedule", "workflow_dispatch"},
    "ci.yml": {"push", "pull_request"},
    "preview.yml": {"pull_request"},
    "deploy.yml": {"push", "schedule", "workflow_dispatch"},
}
# Job -> its permissions.
PERMISSIONS = {
    ("audit.yml", "audit"): {"contents": "read"},
    ("aws-provider.yml", "aws-provider"): {"contents": "read"},
    ("preview.yml", "report"): {"contents": "read", "id-token": "write"},
    ("preview.yml", "comment"): {"contents": "read", "pull-requests": "write"},
    ("preview.yml", "sarif"): {"contents": "read", "security-events": "write"},
    ("deploy.yml", "environments"): {"contents": "read", "actions": "read"},
    ("deploy.yml", "staging"): {"contents": "read", "id-token": "write"},
    ("deploy.yml", "prod"): {"contents": "read", "id-token": "write"},
    ("deploy.yml", "drift"): {"contents": "read", "id-token": "write"},
}
# In a repository without environments, no job fails for that reason.
CONFIGURED = "vars.GROUNDWORK_BACKEND != ''"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def read(file: Path) -> dict[str, Any]:
    # YAML 1.1 reads `on` as true.
    content: dict[Any, Any] = yaml.safe_load(file.read_text())
    return {"on" if key is True else key: value for key, value in content.items()}


def jobs(files: Sequence[Path] = OURS) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for file in files:
        for name, job in read(file)["jobs"].items():
            yield file.name, name, job


def steps(files: Sequence[Path] = OURS) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{file}:{job}", step) for file, job, content in jobs(files) for step in content["steps"]]


def test_a_workflow_has_the_expected_triggers() -> None:
    """`pull_request_target` and `workflow_run` would give a pull request's code the repository's permissions."""
    assert {file.name: set(read(file)["on"]) for file in FILES} == EVENTS


@promise("a job that runs a pull request's code has no write permission")
def test_a_job_has_exactly_these_permissions_and_a_workflow_none() -> None:
    for file in OURS:
        with in_case(file):
            content = read(file)
            assert content["permissions"] == {}
            for name, job in content["jobs"].items():
                assert job["permissions"] == PERMISSIONS[file.name, name]


def test_the_tests_may_only_read() -> None:
    assert read(ROOT / ".github" / "workflows" / "ci.yml")["permissions"] == {"contents": "read"}


def test_an_action_is_pinned_by_its_commit() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [(w, s) for w, s in steps(FILES) if "uses" in s]
    for where, step in cases:
        with in_case(where, step):
            assert PINNED.fullmatch(step["uses"]), where


def test_a_pinned_action_has_its_version_in_a_comment() -> None:
    for file in FILES:
        with in_case(file):
            for line in file.read_text().splitlines():
                if "uses:" in line:
                    assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_an_action_has_one_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for _, step in steps(FILES):
        if "uses" in step:
            action, _, commit = step["uses"].partition("@")
            pins.setdefault(action.removesuffix("/restore"), set()).add(commit)
    assert {action: commits for action, commits in pins.items() if len(commits) > 1} == {}


def test_a_cache_that_is_restored_has_a_job_that_saves_it() -> None:
    saved, restored = set(), set()
    for _, _, job in jobs(FILES):
        for step in job["steps"]:
            action = step.get("uses", "").partition("@")[0]
            # The key contains the architecture, which the runner decides.
            if action == "actions/cache":
                saved.add((job["runs-on"], step["with"]["path"], step["with"]["key"]))
            elif action == "actions/cache/restore":
                restored.add((job["runs-on"], step["with"]["path"], step["with"]["key"]))
    assert restored
    assert restored <= saved


def test_every_command_is_an_existing_make_target() -> None:
    """So people can run the same commands, and no expression is inserted into a shell script."""
    cases: list[tuple[str, dict[str, Any]]] = [(w, s) for w, s in steps() if "run" in s]
    for where, step in cases:
        with in_case(where, step):
            command = re.fullmatch(r"make ([a-z-]+)", step["run"])
            assert command is not None, where
            assert command[1] in declared_targets()


def test_a_checkout_stores_no_token() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        (w, s) for w, s in steps(FILES) if "checkout" in s.get("uses", "")
    ]
    for where, step in cases:
        with in_case(where, step):
            assert step["with"]["persist-credentials"] is False, where


def test_every_job_has_a_time_limit() -> None:
    for file, name, job in list(jobs()):
        with in_case(file, name, job):
            assert job["timeout-minutes"] <= 120


def test_there_is_no_report_for_forks_and_no_other_job_without_it() -> None:
    preview = read(ROOT / ".github" / "workflows" / "preview.yml")["jobs"]
    same, configured = preview["report"]["if"].split(" && ")
    assert same == "github.event.pull_request.head.repo.full_name == github.repository"
    assert configured == CONFIGURED
    for name in ("comment", "sarif"):
        assert preview[name]["needs"] == "report"
        assert "needs.report.result != 'skipped'" in preview[name]["if"]


@promise("a job that runs a pull request's code has no write permission")
def test_the_job_that_can_write_runs_the_bases_code() -> None:
    preview = read(ROOT / ".github" / "workflows" / "preview.yml")["jobs"]
    (checkout,) = [step for step in preview["comment"]["steps"] if "checkout" in step.get("uses", "")]
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"


@promise("a deployment's `up` is never cancelled, and prod waits for staging and an approval")
def test_prod_waits_for_staging_and_for_the_approval_of_its_environment() -> None:
    deploy = read(ROOT / ".github" / "workflows" / "deploy.yml")["jobs"]
    assert deploy["prod"]["needs"] == "staging"
    assert [deploy[name]["environment"] for name in ("staging", "prod")] == ["staging", "prod"]
    assert "environment" not in deploy["drift"]


@promise("a deployment's `up` is never cancelled, and prod waits for staging and an approval")
@pytest.mark.parametrize("name", ["staging", "prod"])
def test_an_up_is_never_cancelled(name: str) -> None:
    job = read(ROOT / ".github" / "workflows" / "deploy.yml")["jobs"][name]
    assert job["concurrency"] == {"group": f"deploy-{name}", "cancel-in-progress": False}
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make up"]
    assert "github.ref == 'refs/heads/main'" in job["if"]


def test_a_job_with_an_environment_is_skipped_for_every_ref_but_main() -> None:
    """The condition is evaluated before a runner starts, and so before the job can ask for credentials."""
    conditions = [
        job["if"].split(" && ") for _, _, job in jobs(FILES) if "environment" in job or "DEPLOY" in str(job)
    ]
    assert len(conditions) == 2
    assert all("github.ref == 'refs/heads/main'" in condition for condition in conditions)


def test_nothing_is_deployed_without_a_configured_environment() -> None:
    for name in ("staging", "prod", "drift"):
        with in_case(name):
            job = read(ROOT / ".github" / "workflows" / "deploy.yml")["jobs"][name]
            assert job["if"].endswith(f" && {CONFIGURED}")
            nightly = job["if"].startswith("github.event_name == 'schedule'")
            assert nightly == (name == "drift")


def test_a_pull_request_has_its_own_role() -> None:
    roles = {
        (file, name): step["with"]["role-to-assume"]
        for file, name, job in jobs()
        for step in job["steps"]
        if "configure-aws-credentials" in step.get("uses", "")
    }
    assert roles == {
        ("preview.yml", "report"): "${{ vars.AWS_PREVIEW_ROLE }}",
        ("deploy.yml", "staging"): "${{ vars.AWS_DEPLOY_ROLE }}",
        ("deploy.yml", "prod"): "${{ vars.AWS_DEPLOY_ROLE }}",
        ("deploy.yml", "drift"): "${{ vars.AWS_PREVIEW_ROLE }}",
    }


def test_a_runner_that_builds_the_image_has_the_architecture_of_the_stack() -> None:
    """The engine of a job with `make up` builds the access image, and refuses another architecture."""
    runners = {}
    for _, _, job in jobs():
        if {"run": "make up"} in job["steps"]:
            stack = job["env"]["STACK"]
            config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
            if "groundwork:awsAccessImage" not in config:
                wanted = config.get("groundwork:awsAccessArchitecture", AwsSettings().aws_access_architecture)
                runners[stack] = (wanted, "arm64" if job["runs-on"].endswith("-arm") else "amd64")
    assert set(runners) == {"staging", "prod"}
    assert {stack for stack, (wanted, found) in runners.items() if wanted != found} == set(), runners


def test_credentials_last_as_long_as_their_job() -> None:
    """The action asks for one hour by default. An `up` whose credentials expire stays half done."""
    checked = 0
    for file, name, job in jobs():
        for step in job["steps"]:
            if "configure-aws-credentials" in step.get("uses", ""):
                seconds = step["with"].get("role-duration-seconds", 3600)
                assert seconds >= job["timeout-minutes"] * 60, (file, name)
                # More than the default of a role must be documented, because the role has to allow it.
                if seconds > 3600:
                    page = (ROOT / "docs" / "aws-operations.md").read_text()
                    assert f"--max-session-duration {seconds}" in page
                checked += 1
    assert checked == 4


def test_no_repository_secret_is_used() -> None:
    for file in OURS:
        with in_case(file):
            assert "secrets." not in file.read_text()


def test_actionlint_finds_nothing() -> None:
    """Skipped, with the command's reason, if actionlint cannot be built. With CI set this is a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lint_workflows"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=540,
    )  # fmt: skip
    if "not linted" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
