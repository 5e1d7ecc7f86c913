"""The whole stack on AWS with the real provider: how it validates inputs, sends requests and reads answers.

Each test continues from the previous one. moto answers instead of AWS, so nothing here proves how AWS itself behaves.
"""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ops.errors import Exit
from ops.stack.pulumi_stack import PulumiStack
from tests.aws_outputs import REGION
from tests.infra.aws.conftest import STACK, AwsCheckout, changes
from tests.infra.checkout import ROOT
from tests.promises import promise
from tests.scale import IS_FULL

# Only settings that AWS applies at once. AWS changes sizes of servers and storage in the maintenance window, and the
# provider reports a difference until then. moto would change them at once.
CHANGED: dict[str, Any] = {
    "postgresReplicas": "1",
    "postgresParameters": {"random_page_cost": "1.2"},
    # ElastiCache's default, so the provider resets the parameter.
    "redisEvictionPolicy": "volatile-lru",
    "awsBackupRetentionDays": "35",
    "awsBackupWindow": "00:30-01:30",
    "awsMaintenanceWindow": "mon:03:00-mon:04:00",
    "awsMonitoringSeconds": "30",
    "awsRedisSnapshotDays": "14",
    "awsAccessCount": "3",
    "awsAccessCpu": "1024",
    "awsAccessMemory": "2GB",
    "awsLogRetentionDays": "731",
    "awsAlarmEmail": "ops@example.com",
    "awsPermissionsBoundary": "ci-groundwork-boundary-prod",
}
_POSTGRES = f"urn:pulumi:{STACK}::groundwork::groundwork:aws:Postgres$aws"
WAIVERS = {
    f"{_POSTGRES}:rds/instance:Instance::postgres": ("RDS.managed-password",),
    f"{_POSTGRES}:rds/instance:Instance::postgres-replica-1": ("RDS.managed-password",),
    f"{_POSTGRES}:secretsmanager/secret:Secret::postgres-admin": ("SecretsManager.1",),
}
slow = pytest.mark.skipif(
    not IS_FULL, reason="the provider waits for minutes before it asks whether a server is available"
)


@promise("the real AWS provider accepts the program's properties")
def test_preview_of_an_empty_account_creates_everything(checkout: AwsCheckout) -> None:
    found = changes(checkout.preview())
    assert set(found) == {"create"}
    assert {"postgres", "redis", "access", "bootstrap", "vpc"} <= set(found["create"])


@slow
@promise("with the real AWS provider, an `up` leaves no difference and no drift")
def test_up_leaves_no_difference_and_no_drift(checkout: AwsCheckout) -> None:
    checkout.succeed("up", "--stack", STACK)
    assert_no_drift(checkout)


@slow
@promise("with the real AWS provider, an `up` leaves no difference and no drift", control=True)
def test_a_change_by_somebody_else_is_drift(checkout: AwsCheckout) -> None:
    import boto3

    logs = boto3.client(
        "logs", REGION, endpoint_url=checkout.endpoint, aws_access_key_id="x", aws_secret_access_key="y"
    )
    logs.put_retention_policy(logGroupName=f"/groundwork/{STACK}/access", retentionInDays=1)
    done = checkout.run("preview", "--stack", STACK, "--refresh", "--expect-no-changes")
    assert done.returncode == Exit.MISMATCH, done.stdout + done.stderr
    assert re.search(r"LogGroup .*retentionInDays", done.stdout), done.stdout


def assert_no_drift(checkout: AwsCheckout) -> None:
    done = checkout.run("preview", "--stack", STACK, "--refresh", "--expect-no-changes")
    assert done.returncode == Exit.FINE, done.stdout + done.stderr
    (counts,) = re.findall(r"Resources:\n((?:    .*\n)+)", done.stdout)
    assert re.fullmatch(r"    \d{3} unchanged\n", counts), counts


@slow
@promise("with the real AWS provider, an `up` leaves no difference and no drift")
@promise("`restore --adopt` puts a restored instance in place of the stack's, and keeps the old one")
def test_adopted_instance_leaves_no_drift(checkout: AwsCheckout) -> None:
    at = f"--stack={STACK}"
    restored = json.loads(checkout.succeed("restore", at, "--to", "LATEST", "--yes", "--json"))["instance"]
    checkout.succeed("restore", at, "--adopt", restored, "--yes")
    assert_no_drift(checkout)


@slow
@promise("with the real AWS provider, an `up` leaves no difference and no drift")
def test_changed_settings_replace_only_task_definitions_and_leave_no_drift(checkout: AwsCheckout) -> None:
    """The first read replica also moves the administrator's password from RDS to the stack, which needs waivers."""
    checkout.settings(**CHANGED)
    checkout.waive(WAIVERS)
    done = checkout.succeed("up", "--stack", STACK)
    assert set(re.findall(r"(aws:\S+) \S+ replaced", done)) == {"aws:ecs:TaskDefinition"}
    assert_no_drift(checkout)


@slow
@promise("with the real AWS provider, `down` deletes the whole stack")
def test_down_deletes_everything(checkout: AwsCheckout) -> None:
    checkout.settings(**CHANGED, protectData="false")
    checkout.waive(
        {
            urn: ("DataLoss.protection", "RDS.8", *WAIVERS.get(urn, ()))
            for urn in [*checkout.protected(), *WAIVERS]
        }
    )
    checkout.succeed("up", "--stack", STACK)
    checkout.succeed("down", "--stack", STACK, "--volumes", "--yes")
    assert not PulumiStack(checkout.identity, STACK).exists


def not_allowed(actions: Path, *policies: str) -> set[str]:
    """Return the requested actions that no statement of the policies allows."""
    statements = [
        statement
        for name in policies
        for statement in json.loads((ROOT / "docs" / "iam" / f"{name}.json").read_text())["Statement"]
        if statement["Effect"] == "Allow"
    ]
    patterns = [pattern for each in statements for pattern in each["Action"]]
    return {
        action
        for action in actions.read_text().split()
        if not any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)
    }


@slow
@promise("the policies allow every action that the real AWS provider requests")
def test_every_requested_action_is_in_the_policies(actions: Path) -> None:
    deploying = ("preview", "deploy-servers", "deploy-roles", "deploy-surroundings", "set-up")
    # Version 6 does not read a secret that it only writes: it calls ListSecretVersionIds, which the policies allow.
    assert not_allowed(actions, *deploying) == {"secretsmanager:GetSecretValue"}


@slow
@promise("the policies allow every action that the real AWS provider requests", control=True)
def test_a_preview_role_lacks_the_actions_that_change_something(actions: Path) -> None:
    assert {"rds:CreateDBInstance", "elasticache:DeleteUser", "kms:CreateKey"} <= not_allowed(
        actions, "preview"
    )
