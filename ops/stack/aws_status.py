"""The status of a stack's servers and tasks on AWS, as rows and as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra import outputs
from infra.spec.checkout import PROJECT
from ops.errors import Exit, OpsError

# RDS statuses of a server that works normally. The second group appears during a backup or while the disk grows.
_WELL = "available"
_BESIDES_ITS_WORK = {"backing-up", "snapshotting", "storage-optimization"}


def server_rows(values: dict[str, Any], stack: str) -> list[dict[str, Any]]:
    """Return a row per server or service: service, health (healthy, or AWS's status), address, details.

    Raise OpsError if AWS rejects the request, with exit code 6 if AWS cannot be reached.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise OpsError("a stack on AWS needs boto3, which is not installed; run `make .venv`") from error
    region = values[outputs.BACKUPS]["region"]
    name = values[outputs.BACKUPS]["instance"]

    def client(service: str) -> Any:
        return boto3.client(service, region_name=region)

    try:
        return [
            *_instances(client("rds"), name),
            *_cache(client("elasticache"), name),
            *_tasks(client("ecs"), f"{PROJECT}-{stack}", values[outputs.ACCESS_URL]),
        ]
    except ClientError as error:
        reason = error.response.get("Error", {})
        raise OpsError(f"AWS rejected the request: {reason.get('Code')}: {reason.get('Message')}") from error
    except BotoCoreError as error:
        raise OpsError(f"cannot reach AWS: {error}", Exit.UNREACHABLE) from error


def render(rows: list[dict[str, Any]]) -> list[str]:
    """Render the rows as the lines of a text table."""
    width = max(len(row["service"]) for row in rows) + 2
    lines = [f"{'service':<{width}}{'health':<22}address"]
    lines += [f"{row['service']:<{width}}{row['health']:<22}{row['address']}  {row['what']}" for row in rows]
    return lines


def _instances(rds: Any, name: str) -> Iterator[dict[str, Any]]:
    primary = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]
    replicas = [
        rds.describe_db_instances(DBInstanceIdentifier=replica)["DBInstances"][0]
        for replica in primary.get("ReadReplicaDBInstanceIdentifiers", [])
    ]
    for number, instance in enumerate((primary, *replicas)):
        endpoint = instance.get("Endpoint") or {}
        zones = "two zones" if instance.get("MultiAZ") else "one zone"
        yield _row(
            "postgres" if not number else f"postgres-replica-{number}",
            instance["DBInstanceStatus"],
            f"{endpoint.get('Address')}:{endpoint.get('Port')}",
            f"{instance['DBInstanceClass']}, {instance['EngineVersion']}, {zones}",
        )


def _cache(elasticache: Any, name: str) -> Iterator[dict[str, Any]]:
    group = elasticache.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    nodes = group.get("MemberClusters", [])
    endpoint = (group.get("NodeGroups") or [{}])[0].get("PrimaryEndpoint") or {}
    yield _row(
        "redis",
        group["Status"],
        f"{endpoint.get('Address')}:{endpoint.get('Port')}",
        f"{group.get('Engine')}, {group.get('CacheNodeType')}, {len(nodes)} nodes,"
        f" failover {group.get('AutomaticFailover')}",
    )


def _tasks(ecs: Any, cluster: str, url: str) -> Iterator[dict[str, Any]]:
    services = ecs.describe_services(cluster=cluster, services=["access"])["services"]
    # ECS describes a deleted service as inactive for a while, and then not at all.
    active = [service for service in services if service["status"] == "ACTIVE"]
    running = sum(service["runningCount"] for service in active)
    wanted = sum(service["desiredCount"] for service in active)
    said = f"{running} of {wanted} tasks" if active else "missing"
    yield _row(
        "access", _WELL if active and running >= wanted else said, url, f"{running} of {wanted} tasks running"
    )


def _row(service: str, status: str, address: str, what: str) -> dict[str, Any]:
    if status in _BESIDES_ITS_WORK:
        status, what = _WELL, f"{what}, {status}"
    health = "healthy" if status == _WELL else status
    return {"service": service, "health": health, "address": address, "what": what}
