"""The whole stack on AWS through the real engine: preview, up, a second up without changes, failures, teardown.

In this order: each test goes on from where the last one left the stack.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from infra import outputs
from infra.spec import rds
from ops.errors import Exit
from ops.pulumi_stack import PulumiStack
from tests.infra.aws.conftest import IMAGE, STACK, AwsCheckout, changes
from tests.infra.aws.fake_aws import FakeAws


def latest(checkout: AwsCheckout) -> dict[str, object]:
    return PulumiStack(checkout.world, STACK).public_outputs()


def test_a_preview_of_nothing_creates_everything_and_asks_for_no_task(
    checkout: AwsCheckout, aws: FakeAws
) -> None:
    found = changes(checkout.preview())
    assert set(found) == {"create"}
    assert {"postgres", "redis", "access", "bootstrap", "vpc"} <= set(found["create"])
    assert not aws.started


def test_a_bootstrap_that_fails_fails_the_up_with_its_last_lines(checkout: AwsCheckout, aws: FakeAws) -> None:
    aws.exit_code, aws.log = 1, ("applied 0001_row_versions", "groundwork: 0002_cache_outbox failed: 42601")
    done = checkout.run("up", "--stack", STACK)
    said = done.stdout + done.stderr
    assert done.returncode == Exit.ERROR
    assert "task bootstrap exited with 1" in said
    assert "groundwork: 0002_cache_outbox failed: 42601" in said
    assert "Traceback" not in said
    made = PulumiStack(checkout.world, STACK)._latest()["resources"]
    names = {r["urn"].rpartition("::")[2] for r in made if r["type"] == "aws:ecs/service:Service"}
    assert names == set(), "the access service was made before the schema was there"


def test_the_same_up_goes_on_from_there(checkout: AwsCheckout, aws: FakeAws) -> None:
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
        "host": "postgres.abc.eu-central-1.rds.amazonaws.com",
        "port": rds.PORT,
    }
    assert values[outputs.BACKUPS] == {"region": "eu-central-1", "instance": "groundwork-prod"}


def test_a_second_up_changes_nothing_and_runs_no_task(checkout: AwsCheckout, aws: FakeAws) -> None:
    before = len(aws.started)
    said = checkout.succeed("up", "--stack", STACK)
    (counts,) = re.findall(r"Resources:\n((?:    .*\n)+)", said)
    assert re.fullmatch(r"    \d{3} unchanged\n", counts), counts
    assert len(aws.started) == before


def test_its_outputs_are_read_as_those_of_any_stack(checkout: AwsCheckout) -> None:
    found = json.loads(checkout.succeed("env", "--role", "app", "--stack", STACK, "--format", "json"))
    assert found["DATABASE_URL"].startswith("postgresql://app_a@postgres.abc.")
    assert found["REDIS_URL"].startswith("rediss://groundwork-prod-app@master.redis.abc.")


def test_no_secret_of_the_program_is_in_its_state_in_clear(checkout: AwsCheckout) -> None:
    keys = PulumiStack(checkout.world, STACK)
    state = keys.state_file.read_text()
    done = checkout.plain_pulumi(f"pulumi stack output tokenKeys --show-secrets --stack {STACK}")
    secret = done.stdout.strip().partition(":")[2]
    assert len(secret) >= 43, done.stderr
    assert secret not in state


def test_a_pull_request_is_told_what_a_larger_database_would_be(
    checkout: AwsCheckout, tmp_path: Path
) -> None:
    """From the settings to the comment, as `make pr-report` goes; the second half asks nobody."""
    checkout.settings(awsPostgresClass="db.m7g.large", awsBackupRetentionDays="7")
    try:
        preview = tmp_path / "preview.json"
        preview.write_text(json.dumps(checkout.preview()))
    finally:
        checkout.settings()
    options = ["--preview", f"{STACK}={preview}"]
    for kind in ("check", "firewall"):
        findings = tmp_path / f"{kind}.json"
        findings.write_text(checkout.run("policy", kind, "--plan", str(preview), "--json").stdout)
        options += ["--findings", str(findings)]
    done = checkout.run("report", "--markdown", "-", *options)
    assert done.returncode == Exit.REFUSED, done.stderr
    assert "`instanceClass`: `db.t4g.medium` → `db.m7g.large`" in done.stdout
    assert "`backupRetentionPeriod`: `14` → `7`" in done.stdout
    assert "`DataLoss.retention`" in done.stdout
    assert len(done.stdout) < 64_000
    secret = checkout.plain_pulumi(f"pulumi stack output tokenKeys --show-secrets --stack {STACK}").stdout
    assert secret.strip().partition(":")[2] not in done.stdout + done.stderr


def test_drift_is_looked_for_and_not_found(checkout: AwsCheckout) -> None:
    done = checkout.run("preview", "--stack", STACK, "--refresh", "--expect-no-changes")
    assert done.returncode == Exit.FINE, done.stdout + done.stderr


def test_a_change_where_none_is_expected_is_4(checkout: AwsCheckout) -> None:
    checkout.settings(awsPostgresClass="db.m7g.large")
    try:
        done = checkout.run("preview", "--stack", STACK, "--expect-no-changes")
    finally:
        checkout.settings()
    assert done.returncode == Exit.MISMATCH, done.stdout + done.stderr


def test_a_new_migration_shows_in_the_preview_and_runs_one_task_after_one_that_was_left(
    checkout: AwsCheckout, aws: FakeAws
) -> None:
    folder = checkout.root / "db" / "migrations"
    for way, text in (("up", "CREATE TABLE t ();"), ("down", "DROP TABLE t;")):
        (folder / f"0999_later.{way}.sql").write_text(f"-- phase: expand\n{text}\n")
    try:
        found = checkout.preview()
        assert changes(found) == {"update": ["bootstrap"]}
        (step,) = [s for s in found["steps"] if s["op"] == "update"]
        assert "0999_later" in step["newState"]["inputs"]["migrations"]
        assert "0999_later" not in step["oldState"]["inputs"]["migrations"]
        before = len(aws.started)
        # As a killed `up` leaves it.
        left = aws.leftover = "arn:aws:ecs:eu-central-1:123456789012:task/groundwork-prod/left"
        checkout.succeed("up", "--stack", STACK)
        assert len(aws.started) == before + 1
        assert aws.asked[left] == aws.patience
        assert aws.leftover is None
    finally:
        for path in folder.glob("0999_later.*"):
            path.unlink()


def test_another_image_rolls_the_service_and_leaves_the_data_alone(checkout: AwsCheckout) -> None:
    checkout.settings(awsAccessImage=IMAGE.replace("1" * 64, "2" * 64))
    found = changes(checkout.preview())
    touched = {name for names in found.values() for name in names}
    # A definition is replaced by its next revision.
    assert touched == {"access", "bootstrap"}, found
    checkout.settings()


def test_a_down_is_refused_while_the_settings_protect_the_data(checkout: AwsCheckout) -> None:
    for arguments, said in ((("--volumes", "--yes"), "protectData"), ((), "is on AWS")):
        done = checkout.run("down", "--stack", STACK, *arguments)
        assert done.returncode == Exit.REFUSED, done.stderr
        assert said in done.stderr


def test_pulumi_itself_refuses_to_destroy_what_is_protected(checkout: AwsCheckout) -> None:
    done = checkout.plain_pulumi(f"pulumi destroy --yes --skip-preview --stack {STACK}")
    assert done.returncode != 0
    assert "protected" in done.stdout + done.stderr


def test_the_local_commands_say_that_there_are_no_containers(checkout: AwsCheckout) -> None:
    done = checkout.run("logs", "--stack", STACK)
    assert done.returncode == Exit.REFUSED
    assert "/groundwork/prod" in done.stderr


def test_a_bad_setting_is_refused_before_anything_starts(checkout: AwsCheckout, aws: FakeAws) -> None:
    checkout.settings(redisPersistence="aof")
    done = checkout.run("preview", "--stack", STACK)
    assert done.returncode == Exit.USAGE
    assert done.stderr.count("\n") == 1
    assert "groundwork:redisPersistence" in done.stderr
    checkout.settings()


def test_it_is_torn_down_once_settings_and_waivers_say_so(checkout: AwsCheckout) -> None:
    checkout.settings(protectData="false")
    done = checkout.run("up", "--stack", STACK)
    assert done.returncode == Exit.REFUSED, done.stderr
    assert "DataLoss.protection" in done.stderr
    waive(checkout, "DataLoss.protection", "RDS.8")
    checkout.succeed("up", "--stack", STACK)
    checkout.succeed("down", "--stack", STACK, "--volumes", "--yes")
    assert not PulumiStack(checkout.world, STACK).exists


def waive(checkout: AwsCheckout, *rules: str) -> None:
    """Let the rules not hold for whatever is protected, until tomorrow."""
    resources = PulumiStack(checkout.world, STACK)._latest()["resources"]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    waivers = [
        {"urn": r["urn"], "rules": list(rules), "reason": "torn down by a test", "expires": tomorrow}
        for r in resources
        if r.get("protect")
    ]
    path = checkout.root / "infra" / "policy" / "waivers" / f"{STACK}.yaml"
    path.write_text(yaml.safe_dump({"waivers": waivers}))
