"""The whole stack on AWS with the real engine: preview, up, no drift, failures, teardown.

Each test continues from the previous one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import outputs
from infra.spec import rds
from ops.errors import Exit
from ops.stack.pulumi_stack import PulumiStack
from tests.infra.aws.conftest import IMAGE, STACK, AwsCheckout, changes
from tests.infra.aws.fake_aws import FakeAws
from tests.infra.echo_provider import CANCEL_SECONDS
from tests.promises import promise
from tests.scale import IS_FULL


def latest(checkout: AwsCheckout) -> dict[str, object]:
    return PulumiStack(checkout.identity, STACK).public_outputs()


def resources(checkout: AwsCheckout) -> list[dict[str, Any]]:
    return PulumiStack(checkout.identity, STACK).resources()


@pytest.fixture(scope="module")
def token_key(checkout: AwsCheckout) -> str:
    """Return the secret that the program generates. The stack must be up."""
    done = checkout.plain_pulumi(f"pulumi stack output tokenKeys --show-secrets --stack {STACK}")
    secret = done.stdout.strip().partition(":")[2]
    assert len(secret) >= 43, done.stderr
    return secret


@pytest.mark.skipif(
    not IS_FULL, reason="tests/unit/policy has the rules without the engine, and the next test an `up`"
)
def test_first_preview_creates_everything_satisfies_every_rule_and_runs_no_task(
    checkout: AwsCheckout, aws: FakeAws, tmp_path: Path
) -> None:
    """No rule is undetermined either: references to a resource are known, although ids are not."""
    content = checkout.preview()
    found = changes(content)
    assert set(found) == {"create"}
    assert {"postgres", "redis", "access", "bootstrap", "vpc"} <= set(found["create"])
    assert not aws.started
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(content))
    said = json.loads(checkout.succeed("policy", "check", "--plan", str(plan), "--json"))
    assert said["findings"] == []
    # RDS manages the secrets, so the two rules on other secrets have nothing to check.
    assert said["applicable"] == said["rules"] - 2
    assert said["resources"] > 100
    assert json.loads(checkout.succeed("policy", "firewall", "--plan", str(plan), "--json"))["findings"] == []


@promise("a failing bootstrap fails the `up` with its last lines, and the same `up` resumes it")
def test_failing_bootstrap_fails_the_up_with_its_last_lines(checkout: AwsCheckout, aws: FakeAws) -> None:
    aws.exit_code, aws.log = 1, ("applied 0001_row_versions", "groundwork: 0002_cache_outbox failed: 42601")
    done = checkout.run("up", "--stack", STACK)
    said = done.stdout + done.stderr
    assert done.returncode == Exit.ERROR
    assert "task bootstrap exited with 1" in said
    assert "groundwork: 0002_cache_outbox failed: 42601" in said
    assert "Traceback" not in said
    made = resources(checkout)
    names = {r["urn"].rpartition("::")[2] for r in made if r["type"] == "aws:ecs/service:Service"}
    assert names == set(), "the access service was created before the schema"


@promise("a failing bootstrap fails the `up` with its last lines, and the same `up` resumes it")
def test_the_same_up_resumes_after_a_failed_bootstrap(checkout: AwsCheckout, aws: FakeAws) -> None:
    aws.exit_code, aws.log = 0, ("applied 0002_cache_outbox",)
    before = len(aws.started)
    said = checkout.succeed("up", "--stack", STACK)
    assert len(aws.started) == before + 1
    assert f"Stack '{STACK}' is up" in said
    network = aws.started[-1]["networkConfiguration"]["awsvpcConfiguration"]
    assert network["assignPublicIp"] == "DISABLED"
    assert network["securityGroups"] == ["application-id"]
    values = latest(checkout)
    assert values[outputs.TARGET] == "aws"
    assert values[outputs.POSTGRES] == {
        "host": "groundwork-prod.abc.eu-central-1.rds.amazonaws.com",
        "port": rds.PORT,
    }
    assert values[outputs.BACKUPS] == {"region": "eu-central-1", "instance": "groundwork-prod"}


KILLED_AT = (
    "setting the",
    "renaming groundwork-prod-restored",
    "replacing db-",
    "reading the",
    "granting the",
)


@promise("`restore --adopt` puts a restored instance in place of the stack's, and keeps the old one")
@promise("the same `restore --adopt` resumes one that was killed at any step")
def test_stack_continues_with_a_restored_instance_although_the_adoption_was_killed(
    checkout: AwsCheckout, aws: FakeAws
) -> None:
    """Killed between the renames and, with SCALE=full, at each other step. The next test checks for drift."""
    at = f"--stack={STACK}"
    restored = json.loads(checkout.succeed("restore", at, "--to", "LATEST", "--yes", "--json"))["instance"]
    old, new = (aws.rds.named(name)["DbiResourceId"] for name in ("groundwork-prod", restored))
    tasks = len(aws.started)
    refused = checkout.run("restore", at, "--adopt", restored)
    assert refused.returncode == Exit.REFUSED
    assert "remains only in groundwork-prod-before" in refused.stderr
    for moment in KILLED_AT if IS_FULL else KILLED_AT[1:2]:
        checkout.run_until(moment, "restore", at, "--adopt", restored, "--yes", says_on_stderr=True)
    found = json.loads(checkout.succeed("restore", at, "--adopt", restored, "--yes", "--json"))
    assert found["kept"] == "groundwork-prod-before"
    assert found["flush"] == f"groundwork cache flush --all --yes --confirm {STACK} --stack {STACK}"
    assert aws.rds.named("groundwork-prod")["DbiResourceId"] == new
    assert aws.rds.named("groundwork-prod-before")["DbiResourceId"] == old
    # Logins name the instance by its id, and the roles are applied to it.
    policies = [r["inputs"]["policy"] for r in resources(checkout) if r["urn"].endswith("::login-app")]
    assert [new in policy and old not in policy for policy in policies] == [True]
    assert len(aws.started) == tasks + 1
    assert aws.rds.named("groundwork-prod")["TagList"] == [
        {"Key": "Name", "Value": "groundwork-prod-postgres"}
    ]
    saved = json.loads((checkout.identity.stack_dir(STACK) / f"state-before-{new}.json").read_text())
    assert old in {r.get("id") for r in saved["deployment"]["resources"]}


@promise("drift of a stack is detected and named", control=True)
@promise("`up` succeeds although a plugin is too slow to confirm its end")
def test_no_change_and_no_drift_after_an_up_and_an_adoption(
    checkout: AwsCheckout, aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider takes longer to confirm its end than Pulumi waits."""
    before = len(aws.started)
    monkeypatch.setenv(CANCEL_SECONDS, "7")
    done = checkout.run("preview", "--stack", STACK, "--refresh", "--expect-no-changes")
    assert done.returncode == Exit.FINE, done.stdout + done.stderr
    (counts,) = re.findall(r"Resources:\n((?:    .*\n)+)", done.stdout)
    assert re.fullmatch(r"    \d{3} unchanged\n(    1 errored\n)?", counts), counts
    assert "ignoring the error about pulumi-resource-aws above" in done.stderr
    assert len(aws.started) == before


def test_outputs_are_read_like_those_of_a_docker_stack(checkout: AwsCheckout) -> None:
    found = json.loads(checkout.succeed("env", "--role", "app", "--stack", STACK, "--format", "json"))
    assert found["DATABASE_URL"].startswith("postgresql://app_a@groundwork-prod.abc.")
    assert found["REDIS_URL"].startswith("rediss://groundwork-prod-app@master.redis.abc.")


def test_no_secret_is_in_the_state_in_clear(checkout: AwsCheckout, token_key: str) -> None:
    assert token_key not in PulumiStack(checkout.identity, STACK).state_file.read_text()


@pytest.fixture(scope="module")
def new_migration(checkout: AwsCheckout) -> Iterator[None]:
    folder = checkout.root / "db" / "migrations"
    for way, text in (("up", "CREATE TABLE t ();"), ("down", "DROP TABLE t;")):
        (folder / f"0999_later.{way}.sql").write_text(f"-- phase: expand\n{text}\n")
    yield
    for path in folder.glob("0999_later.*"):
        path.unlink()


@pytest.fixture(scope="module")
def changed_preview(checkout: AwsCheckout, new_migration: None) -> dict[str, Any]:
    """A larger database with fewer backups, another image, and a new migration."""
    checkout.settings(
        awsPostgresClass="db.r7g.xlarge",
        awsBackupRetentionDays="7",
        awsAccessImage=IMAGE.replace("1" * 64, "2" * 64),
    )
    try:
        return checkout.preview()
    finally:
        checkout.settings()


OF_A_LARGER_DATABASE = {"postgres", "postgres-primary-memory", "dashboard"}


def test_new_migration_and_image_change_the_tasks_and_not_the_data(
    changed_preview: dict[str, Any],
) -> None:
    found = changes(changed_preview)
    touched = {name for names in found.values() for name in names}
    # The next revision replaces a task definition.
    assert touched - OF_A_LARGER_DATABASE == {"access", "bootstrap"}, found
    assert "postgres" in found["update"]
    (step,) = [
        s for s in changed_preview["steps"] if s["op"] == "update" and s["urn"].endswith("::bootstrap")
    ]
    assert "0999_later" in step["newState"]["inputs"]["migrations"]
    assert "0999_later" not in step["oldState"]["inputs"]["migrations"]


def test_pull_request_comment_shows_a_larger_database(
    checkout: AwsCheckout, changed_preview: dict[str, Any], token_key: str, tmp_path: Path
) -> None:
    """From the settings to the comment, as in `make pr-report`. The second half connects to no server."""
    preview = tmp_path / "preview.json"
    preview.write_text(json.dumps(changed_preview))
    options = ["--preview", f"{STACK}={preview}"]
    for kind in ("check", "firewall"):
        findings = tmp_path / f"{kind}.json"
        findings.write_text(checkout.run("policy", kind, "--plan", str(preview), "--json").stdout)
        options += ["--findings", str(findings)]
    done = checkout.run("report", "--markdown", "-", *options)
    assert done.returncode == Exit.REFUSED, done.stderr
    assert "`instanceClass`: `db.r7g.large` → `db.r7g.xlarge`" in done.stdout
    assert "`backupRetentionPeriod`: `30` → `7`" in done.stdout
    assert "`DataLoss.retention`" in done.stdout
    assert len(done.stdout) < 64_000
    assert token_key not in done.stdout + done.stderr


@pytest.mark.skipif(not IS_FULL, reason="tests/unit/infra/aws/test_task_run.py has it without the engine")
def test_new_migration_runs_one_task_after_that_of_a_killed_up(
    checkout: AwsCheckout, aws: FakeAws, new_migration: None
) -> None:
    before = len(aws.started)
    left = aws.leftover = "arn:aws:ecs:eu-central-1:123456789012:task/groundwork-prod/left"
    checkout.succeed("up", "--stack", STACK)
    assert len(aws.started) == before + 1
    assert aws.asked[left] == aws.patience
    assert aws.leftover is None


@promise("a stack on AWS is torn down only if its settings and waivers allow it", control=True)
def test_down_is_refused_while_the_settings_protect_the_data(checkout: AwsCheckout) -> None:
    for arguments, said in ((("--volumes", "--yes"), "protectData"), ((), "is on AWS")):
        done = checkout.run("down", "--stack", STACK, *arguments)
        assert done.returncode == Exit.REFUSED, done.stderr
        assert said in done.stderr


@promise("`protectData` protects every resource that holds data")
def test_the_state_also_protects_the_data_from_plain_pulumi(checkout: AwsCheckout) -> None:
    names = {urn.rpartition("::")[2] for urn in checkout.protected()}
    assert {"postgres", "redis"} <= names


def test_docker_commands_report_that_a_stack_on_aws_has_no_containers(checkout: AwsCheckout) -> None:
    done = checkout.run("logs", "--stack", STACK)
    assert done.returncode == Exit.REFUSED
    assert "/groundwork/prod" in done.stderr


def test_bad_setting_is_refused_before_anything_starts(checkout: AwsCheckout, aws: FakeAws) -> None:
    checkout.settings(redisPersistence="aof")
    done = checkout.run("preview", "--stack", STACK)
    assert done.returncode == Exit.USAGE
    assert done.stderr.count("\n") == 1
    assert "groundwork:redisPersistence" in done.stderr
    checkout.settings()


# tests/unit/policy/test_guard.py tests that an `up` without the waivers is refused, and tests/infra/policy tests it
# with the engine's own preview.
@pytest.mark.skipif(
    not IS_FULL, reason="an `up` and a `down` of everything; the refusal above is the promise's risk"
)
@promise("a stack on AWS is torn down only if its settings and waivers allow it")
def test_down_succeeds_with_settings_and_waivers(checkout: AwsCheckout) -> None:
    checkout.settings(protectData="false")
    checkout.waive(dict.fromkeys(checkout.protected(), ("DataLoss.protection", "RDS.8")))
    checkout.succeed("up", "--stack", STACK)
    checkout.succeed("down", "--stack", STACK, "--volumes", "--yes")
    assert not PulumiStack(checkout.identity, STACK).exists
