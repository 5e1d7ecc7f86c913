"""The whole stack on AWS with the real provider: its validation, its requests, and what it makes of the answers.

Each test continues from the previous one. moto answers instead of AWS, so nothing here proves how AWS itself behaves.
"""

from __future__ import annotations

import re

import pytest

from ops.errors import Exit
from ops.stack.pulumi_stack import PulumiStack
from tests.infra.aws.conftest import STACK, AwsCheckout, changes
from tests.infra.aws.test_engine import waive
from tests.promises import promise
from tests.scale import IS_FULL

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


def assert_no_drift(checkout: AwsCheckout) -> None:
    done = checkout.run("preview", "--stack", STACK, "--refresh", "--expect-no-changes")
    assert done.returncode == Exit.FINE, done.stdout + done.stderr
    (counts,) = re.findall(r"Resources:\n((?:    .*\n)+)", done.stdout)
    assert re.fullmatch(r"    \d{3} unchanged\n", counts), counts


@slow
@promise("with the real AWS provider, an `up` leaves no difference and no drift")
def test_changed_settings_leave_no_drift(checkout: AwsCheckout) -> None:
    checkout.settings(
        awsPostgresClass="db.r7g.xlarge",
        awsBackupRetentionDays="35",
        awsLogRetentionDays="731",
        postgresReplicas="1",
    )
    checkout.succeed("up", "--stack", STACK)
    assert_no_drift(checkout)


@slow
@promise("with the real AWS provider, `down` deletes the whole stack")
def test_down_deletes_everything(checkout: AwsCheckout) -> None:
    checkout.settings(protectData="false")
    waive(checkout, "DataLoss.protection", "RDS.8")
    checkout.succeed("up", "--stack", STACK)
    checkout.succeed("down", "--stack", STACK, "--volumes", "--yes")
    assert not PulumiStack(checkout.identity, STACK).exists
