"""`groundwork status` of a stack on AWS: the state of servers and tasks in AWS's words, and problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from infra import outputs
from ops.errors import Exit, OpsError
from ops.stack.aws_status import render, server_rows
from ops.stack.stack_status import needed_services, require_well

VALUES = {
    outputs.BACKUPS: {"region": "eu-central-1", "instance": "groundwork-prod"},
    outputs.ACCESS_URL: "http://access.groundwork-prod.internal:8080",
}


def _instance(status: str, **more: Any) -> dict[str, Any]:
    return {
        "DBInstanceStatus": status,
        "DBInstanceClass": "db.r7g.large",
        "EngineVersion": "15.8",
        "Endpoint": {"Address": "db.example", "Port": 15432},
        **more,
    }


@dataclass
class Account:
    """The state of an account, as answered by the three services."""

    instances: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "groundwork-prod": _instance(
                "available", MultiAZ=True, ReadReplicaDBInstanceIdentifiers=["groundwork-prod-replica-1"]
            ),
            "groundwork-prod-replica-1": _instance("available", MultiAZ=False),
        }
    )
    redis: str = "available"
    services: list[dict[str, Any]] = field(
        default_factory=lambda: [{"status": "ACTIVE", "runningCount": 2, "desiredCount": 2}]
    )
    error: Exception | None = None

    def describe_db_instances(self, *, DBInstanceIdentifier: str) -> dict[str, Any]:
        if self.error:
            raise self.error
        return {"DBInstances": [self.instances[DBInstanceIdentifier]]}

    def describe_replication_groups(self, *, ReplicationGroupId: str) -> dict[str, Any]:
        assert ReplicationGroupId == "groundwork-prod"
        group = {
            "Status": self.redis,
            "Engine": "valkey",
            "MemberClusters": ["001", "002"],
            "CacheNodeType": "cache.r7g.large",
            "AutomaticFailover": "enabled",
            "NodeGroups": [{"PrimaryEndpoint": {"Address": "redis.example", "Port": 6379}}],
        }
        return {"ReplicationGroups": [group]}

    def describe_services(self, *, cluster: str, services: list[str]) -> dict[str, Any]:
        assert (cluster, services) == ("groundwork-prod", ["access"])
        return {"services": self.services}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    found = Account()
    monkeypatch.setattr(boto3, "client", lambda service, region_name: found)
    return found


def health() -> dict[str, str]:
    return {row["service"]: row["health"] for row in server_rows(VALUES, "prod")}


def test_an_unfinished_restore_is_the_advice_instead_of_an_up() -> None:
    restore = "a restore of stack 'dev' was interrupted; run it again"
    stopped = [{"service": "postgres", "health": "exited"}]
    for rows in ([], stopped):
        with pytest.raises(OpsError, match="a restore of stack 'dev' was interrupted") as caught:
            require_well(rows, "dev", ["postgres"], unfinished_restore=restore)
        assert "groundwork up" not in str(caught.value)
        assert caught.value.exit_code == Exit.UNREACHABLE


def test_every_server_and_service_is_listed(account: Account) -> None:
    assert health() == dict.fromkeys(("postgres", "postgres-replica-1", "redis", "access"), "healthy")
    text = "\n".join(render(server_rows(VALUES, "prod")))
    assert "db.example:15432  db.r7g.large, 15.8, two zones" in text
    assert "valkey, cache.r7g.large, 2 nodes, failover enabled" in text


def test_problems_are_reported_in_aws_words(account: Account) -> None:
    account.instances["groundwork-prod"]["DBInstanceStatus"] = "storage-full"
    account.redis = "modifying"
    account.services[0]["runningCount"] = 1
    found = health()
    assert (found["postgres"], found["redis"], found["access"]) == (
        "storage-full",
        "modifying",
        "1 of 2 tasks",
    )


@pytest.mark.parametrize("status", ["backing-up", "storage-optimization"])
def test_a_server_that_works_is_healthy_during_maintenance(account: Account, status: str) -> None:
    account.instances["groundwork-prod"]["DBInstanceStatus"] = status
    account.redis = "snapshotting"
    rows = server_rows(VALUES, "prod")
    require_well(rows, "prod")
    assert status in "\n".join(render(rows))


def test_a_server_that_does_not_work_is_one_line_and_exit_code_6(account: Account) -> None:
    account.instances["groundwork-prod"]["DBInstanceStatus"] = "storage-full"
    with pytest.raises(OpsError, match="postgres is storage-full") as refusal:
        require_well(server_rows(VALUES, "prod"), "prod", on_aws=True)
    assert refusal.value.exit_code == Exit.UNREACHABLE
    assert "see why in the logs in CloudWatch under /groundwork/prod, and recreate" in str(refusal.value)


def test_a_missing_replica_is_reported(account: Account) -> None:
    account.instances["groundwork-prod"]["ReadReplicaDBInstanceIdentifiers"] = []
    replica = {"host": "replica.example", "port": 15432}
    needed = needed_services({outputs.TARGET: "aws", outputs.POSTGRES_REPLICAS: [replica]})
    with pytest.raises(OpsError, match="stack 'prod': postgres-replica-1 is missing"):
        require_well(server_rows(VALUES, "prod"), "prod", needed)


@pytest.mark.parametrize("services", [[], [{"status": "INACTIVE", "runningCount": 0, "desiredCount": 0}]])
def test_a_missing_service_is_reported(account: Account, services: list[dict[str, Any]]) -> None:
    account.services = services
    assert health()["access"] == "missing"


def test_an_instance_that_is_being_created_has_no_address_yet(account: Account) -> None:
    account.instances["groundwork-prod"] = _instance("creating") | {"Endpoint": None}
    assert health()["postgres"] == "creating"


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeDBInstances"),
            "AWS rejected the request: AccessDenied: no",
            Exit.ERROR,
        ),
        (EndpointConnectionError(endpoint_url="https://rds"), "cannot reach AWS", Exit.UNREACHABLE),
    ],
)
def test_an_aws_that_does_not_answer_is_reported_in_one_line(
    account: Account, error: Exception, said: str, code: Exit
) -> None:
    account.error = error
    with pytest.raises(OpsError) as refusal:
        server_rows(VALUES, "prod")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == code
