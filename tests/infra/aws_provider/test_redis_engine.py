"""From Redis to Valkey on ElastiCache with the real provider, as docs/aws-operations.md describes it."""

from __future__ import annotations

import boto3
import pytest

from ops.errors import Exit
from tests.aws_outputs import REGION
from tests.infra.aws.conftest import STACK, AwsCheckout
from tests.promises import promise
from tests.scale import IS_FULL

NAME = f"groundwork-{STACK}"


@pytest.mark.skipif(
    not IS_FULL, reason="the provider waits for minutes before it asks whether a server is available"
)
@promise(
    "another engine of ElastiCache changes three properties of the replication group, and deletes nothing"
)
def test_the_engine_is_changed_in_place_in_the_maintenance_window(
    checkout: AwsCheckout, endpoint: str
) -> None:
    checkout.succeed("up", "--stack", STACK)
    checkout.settings(awsRedisEngine="valkey-8.2")
    # This `up` would fail if it deleted the parameter group that the servers still use.
    checkout.succeed("up", "--stack", STACK)
    drift = ("preview", "--stack", STACK, "--refresh", "--expect-no-changes")
    waiting = checkout.run(*drift, "--diff")
    assert waiting.returncode != Exit.FINE
    assert '"redis" => "valkey"' in waiting.stdout

    client = boto3.client(
        "elasticache", REGION, endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.modify_replication_group(
        ReplicationGroupId=NAME,
        ApplyImmediately=True,
        Engine="valkey",
        EngineVersion="8.2",
        CacheParameterGroupName=f"{NAME}-valkey8",
    )
    done = checkout.run(*drift)
    assert done.returncode == Exit.FINE, done.stdout + done.stderr
