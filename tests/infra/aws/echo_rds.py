"""Instances of the echo provider that exist in the fake RDS too, so that a refresh shows what happened there."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

TYPE = "aws:rds/instance:Instance"
# A variable: the provider creates its instances in the RDS at AWS_ENDPOINT_URL.
ENABLED = "GROUNDWORK_TEST_RDS"
# Pulumi's property -> RDS's.
_NAMES = {
    "identifier": "DBInstanceIdentifier",
    "instanceClass": "DBInstanceClass",
    "multiAz": "MultiAZ",
    "deletionProtection": "DeletionProtection",
    "backupRetentionPeriod": "BackupRetentionPeriod",
    "monitoringInterval": "MonitoringInterval",
}
_ONLY_AT_CREATION = {
    "kmsKeyId": "KmsKeyId",
    "username": "MasterUsername",
    "engine": "Engine",
    "engineVersion": "EngineVersion",
    "dbSubnetGroupName": "DBSubnetGroupName",
    "manageMasterUserPassword": "ManageMasterUserPassword",
}


def is_enabled(type_: str) -> bool:
    return type_ == TYPE and bool(os.environ.get(ENABLED))


def create(inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Create an instance or a replica. Return its id and what RDS adds."""
    given = _parameters(inputs, _NAMES | _ONLY_AT_CREATION)
    tags = [{"Key": key, "Value": value} for key, value in inputs.get("tags", {}).items()]
    if source := inputs.get("replicateSourceDb"):
        for key in ("KmsKeyId", "BackupRetentionPeriod"):
            given.pop(key, None)
        row = _client().create_db_instance_read_replica(SourceDBInstanceIdentifier=source, Tags=tags, **given)
    else:
        row = _client().create_db_instance(Tags=tags, **given)
    return row["DBInstance"]["DbiResourceId"], _added(row["DBInstance"])


def read(resource_id: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the inputs that a refresh compares, and what RDS adds, or None if the instance does not exist."""
    row = _row(resource_id)
    if row is None:
        return None
    inputs = {name: row[key] for name, key in _NAMES.items() if key in row}
    return inputs | {"tags": {tag["Key"]: tag["Value"] for tag in row["TagList"]}}, _added(row)


def update(resource_id: str, inputs: dict[str, Any] | None) -> dict[str, Any]:
    """Apply the inputs, None in a preview, and return what RDS adds."""
    row = _row(resource_id)
    assert row is not None
    if inputs is None:
        return _added(row)
    changes = _parameters(inputs, _NAMES)
    name = changes.pop("DBInstanceIdentifier")
    _client().modify_db_instance(DBInstanceIdentifier=name, **changes)
    for tag in row["TagList"]:
        if tag["Key"] not in inputs.get("tags", {}):
            _client().remove_tags_from_resource(ResourceName=row["DBInstanceArn"], TagKeys=[tag["Key"]])
    return _added(_row(resource_id) or {})


def delete(resource_id: str) -> None:
    if row := _row(resource_id):
        _client().delete_db_instance(DBInstanceIdentifier=row["DBInstanceIdentifier"], SkipFinalSnapshot=True)


def _parameters(inputs: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    # Numbers of the engine are floats.
    values = {key: inputs[name] for name, key in names.items() if name in inputs}
    return {key: int(value) if isinstance(value, float) else value for key, value in values.items()}


def _added(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": row["Endpoint"]["Address"],
        "endpoint": f"{row['Endpoint']['Address']}:{row['Endpoint']['Port']}",
        "arn": row["DBInstanceArn"],
        "resourceId": row["DbiResourceId"],
    }
    if secret := row.get("MasterUserSecret"):
        found["masterUserSecrets"] = [
            {"secretArn": secret["SecretArn"], "secretStatus": "active", "kmsKeyId": secret["KmsKeyId"]}
        ]
    return found


def _row(resource_id: str) -> dict[str, Any] | None:
    filters = [{"Name": "dbi-resource-id", "Values": [resource_id]}]
    rows = _client().describe_db_instances(Filters=filters)["DBInstances"]
    return rows[0] if rows else None


@cache
def _client() -> Any:
    import boto3

    from tests.aws_outputs import REGION

    return boto3.client("rds", region_name=REGION)
