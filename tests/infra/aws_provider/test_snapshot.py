"""A new stack from a snapshot, with the real provider: the instance has the snapshot's key, and is never replaced."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from infra.spec import rds
from tests.aws_outputs import REGION
from tests.infra.aws.conftest import STACK, AwsCheckout
from tests.infra.aws_provider.test_stack import assert_no_drift, slow
from tests.promises import promise

SNAPSHOT = f"groundwork-{STACK}-copy"


def client(service: str, checkout: AwsCheckout) -> Any:
    """Return a client of moto."""
    return boto3.client(
        service, region_name=REGION, endpoint_url=checkout.endpoint,
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip


@pytest.fixture(scope="module")
def key(checkout: AwsCheckout) -> str:
    """Return the key of a snapshot of a groundwork stack."""
    arn = str(client("kms", checkout).create_key()["KeyMetadata"]["Arn"])
    source = client("rds", checkout)
    source.create_db_instance(
        DBInstanceIdentifier="source", DBInstanceClass="db.r7g.large", Engine="postgres",
        EngineVersion=f"{rds.MAJOR}.8", AllocatedStorage=50, MasterUsername=rds.ADMIN,
        MasterUserPassword="not-a-secret-here", StorageEncrypted=True, KmsKeyId=arn,
    )  # fmt: skip
    source.create_db_snapshot(DBSnapshotIdentifier=SNAPSHOT, DBInstanceIdentifier="source")
    return arn


@slow
@promise("a snapshot that cannot become the stack's instance is refused before anything is created")
def test_missing_snapshot_is_refused_by_the_preview(checkout: AwsCheckout, key: str) -> None:
    checkout.settings(awsPostgresSnapshot="missing")
    done = checkout.run("preview", "--stack", STACK)
    assert done.returncode == 1
    assert "groundwork:awsPostgresSnapshot: there is no snapshot missing" in done.stdout + done.stderr


@slow
@promise("an instance is created from a snapshot, and a later change of the setting does not replace it")
def test_instance_has_the_snapshots_key_and_a_managed_password(checkout: AwsCheckout, key: str) -> None:
    checkout.settings(awsPostgresSnapshot=SNAPSHOT)
    checkout.succeed("up", "--stack", STACK)
    api = client("rds", checkout)
    (row,) = api.describe_db_instances(DBInstanceIdentifier=f"groundwork-{STACK}")["DBInstances"]
    assert row["KmsKeyId"] == key
    assert row["MasterUserSecret"]["SecretStatus"] == "active"


@slow
@promise("an instance is created from a snapshot, and a later change of the setting does not replace it")
def test_later_changes_of_the_setting_change_nothing(checkout: AwsCheckout) -> None:
    # The provider sends some properties of a restored instance only with the next `up`.
    checkout.succeed("up", "--stack", STACK)
    for name in ("another", ""):
        checkout.settings(**({"awsPostgresSnapshot": name} if name else {}))
        assert_no_drift(checkout)
