"""RDS's instances over its own protocol, as far as a restore and its adoption use them.

moto gives all instances the same resource id, and its changes take effect at once. Here a change begins and ends with a
delay, and RDS refuses what it refuses in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from tests.aws_outputs import ACCOUNT, REGION

_NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"
_SECRET = "arn:aws:secretsmanager:{region}:{account}:secret:rds!db-{id}"
_FLAGS = (
    "MultiAZ",
    "DeletionProtection",
    "AutoMinorVersionUpgrade",
    "CopyTagsToSnapshot",
    "PubliclyAccessible",
)
_NUMBERS = ("BackupRetentionPeriod", "MonitoringInterval", "MaxAllocatedStorage", "AllocatedStorage")
_TEXTS = (
    "DBInstanceClass",
    "CACertificateIdentifier",
    "KmsKeyId",
    "MasterUsername",
    "Engine",
    "EngineVersion",
)


class RdsError(Exception):
    """An answer with an error code."""


@dataclass
class FakeRds:
    """The instances of an account. A change begins after `lag` descriptions of its instance, and takes as many."""

    lag: int = 0
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: count(1))
    # Resource id -> the changes to come, and how often the instance is described until they begin and end.
    _changes: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)

    def add(self, name: str, **properties: Any) -> dict[str, Any]:
        """Create an available instance."""
        if any(row["DBInstanceIdentifier"] == name for row in self.instances.values()):
            raise RdsError("DBInstanceAlreadyExists")
        resource_id = f"db-{next(self._numbers):04}"
        row = {
            "DbiResourceId": resource_id,
            "DBInstanceStatus": "available",
            "Engine": "postgres",
            "EngineVersion": "15.8",
            "MasterUsername": "groundwork_admin",
            "BackupRetentionPeriod": 30,
            "InstanceCreateTime": datetime.now(UTC) - timedelta(days=60),
            "LatestRestorableTime": datetime.now(UTC),
            "TagList": [],
            **properties,
        }
        self.instances[resource_id] = row
        self._named(row, name)
        return row

    def named(self, name: str) -> dict[str, Any]:
        """Return the instance with that name, as it is now."""
        for row in self.instances.values():
            if row["DBInstanceIdentifier"] == name:
                return row
        raise RdsError("DBInstanceNotFound")

    def names(self) -> set[str]:
        return {row["DBInstanceIdentifier"] for row in self.instances.values()}

    def respond(self, body: bytes | str) -> tuple[int, bytes]:
        """Return the status and the XML for a request of the query protocol."""
        fields = dict(parse_qsl(body if isinstance(body, str) else body.decode(), keep_blank_values=True))
        action = fields["Action"]
        self.calls.append(action)
        try:
            found = _xml(_output(action), getattr(self, f"_{action}")(fields))
        except RdsError as error:
            code = str(error)
            text = f"<Error><Code>{code}</Code><Message>{code} of {action}</Message></Error>"
            return 400, f"<ErrorResponse>{text}</ErrorResponse>".encode()
        return 200, (
            f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{found}</{action}Result></{action}Response>'
        ).encode()

    def _DescribeDBInstances(self, fields: dict[str, str]) -> dict[str, Any]:
        name, wanted = fields.get("DBInstanceIdentifier"), fields.get("Filters.Filter.1.Values.Value.1")
        for row in self._matching(name, wanted):
            self._advance(row["DbiResourceId"])
        rows = self._matching(name, wanted)
        if name is not None and not rows:
            raise RdsError("DBInstanceNotFound")
        return {"DBInstances": rows}

    def _matching(self, name: str | None, resource_id: str | None) -> list[dict[str, Any]]:
        return [
            row
            for row in self.instances.values()
            if name in (None, row["DBInstanceIdentifier"]) and resource_id in (None, row["DbiResourceId"])
        ]

    def _DescribeDBInstanceAutomatedBackups(self, _: dict[str, str]) -> dict[str, Any]:
        return {"DBInstanceAutomatedBackups": []}

    def _CreateDBInstance(self, fields: dict[str, str]) -> dict[str, Any]:
        row = self.add(fields["DBInstanceIdentifier"], **_properties(fields))
        if fields.get("ManageMasterUserPassword") == "true":
            row["MasterUserSecret"] = self._secret(row)
        return {"DBInstance": row}

    def _CreateDBInstanceReadReplica(self, fields: dict[str, str]) -> dict[str, Any]:
        source = self.named(fields["SourceDBInstanceIdentifier"])
        properties = {
            **_properties(fields),
            "ReadReplicaSourceDBInstanceIdentifier": source["DBInstanceIdentifier"],
        }
        row = self.add(fields["DBInstanceIdentifier"], **properties)
        source.setdefault("ReadReplicaDBInstanceIdentifiers", []).append(row["DBInstanceIdentifier"])
        return {"DBInstance": row}

    def _RestoreDBInstanceToPointInTime(self, fields: dict[str, str]) -> dict[str, Any]:
        source = self.named(fields["SourceDBInstanceIdentifier"])
        kept = ("KmsKeyId", "DBSubnetGroup", "BackupRetentionPeriod", "MasterUsername", "EngineVersion")
        properties = {key: source[key] for key in kept if key in source} | _properties(fields)
        return {"DBInstance": self.add(fields["TargetDBInstanceIdentifier"], **properties)}

    def _ModifyDBInstance(self, fields: dict[str, str]) -> dict[str, Any]:
        row = self.named(fields["DBInstanceIdentifier"])
        resource_id = row["DbiResourceId"]
        if row["DBInstanceStatus"] != "available" or resource_id in self._changes:
            raise RdsError("InvalidDBInstanceState")
        changes = _properties(fields)
        if new := fields.get("NewDBInstanceIdentifier"):
            if new in self.names():
                raise RdsError("DBInstanceAlreadyExists")
            changes["DBInstanceIdentifier"] = new
            row["PendingModifiedValues"] = {"DBInstanceIdentifier": new}
        if fields.get("ManageMasterUserPassword") == "true":
            changes["MasterUserSecret"] = self._secret(row)
        if password := fields.get("MasterUserPassword"):
            changes["password"] = password
        self._changes[resource_id] = (changes, 2 * self.lag)
        if not self.lag:
            self._advance(resource_id)
        return {"DBInstance": row}

    def _StopDBInstanceAutomatedBackupsReplication(self, fields: dict[str, str]) -> dict[str, Any]:
        row = self.named(fields["SourceDBInstanceArn"].rpartition(":")[2])
        if not row.get("DBInstanceAutomatedBackupsReplications") or row["DbiResourceId"] in self._changes:
            raise RdsError("InvalidDBInstanceState")
        self._changes[row["DbiResourceId"]] = ({"DBInstanceAutomatedBackupsReplications": []}, 2 * self.lag)
        return {}

    def _DeleteDBInstance(self, fields: dict[str, str]) -> dict[str, Any]:
        row = self.named(fields["DBInstanceIdentifier"])
        if row.get("DeletionProtection"):
            raise RdsError("InvalidParameterCombination")
        if row["DbiResourceId"] in self._changes:
            raise RdsError("InvalidDBInstanceState")
        self._changes[row["DbiResourceId"]] = ({"DBInstanceStatus": "deleting"}, 2 * self.lag)
        if not self.lag:
            self._advance(row["DbiResourceId"])
        return {"DBInstance": row}

    def _AddTagsToResource(self, fields: dict[str, str]) -> dict[str, Any]:
        row = self._by_arn(fields)
        key, value = fields["Tags.Tag.1.Key"], fields["Tags.Tag.1.Value"]
        row["TagList"] = [tag for tag in row["TagList"] if tag["Key"] != key] + [{"Key": key, "Value": value}]
        return {}

    def _RemoveTagsFromResource(self, fields: dict[str, str]) -> dict[str, Any]:
        row = self._by_arn(fields)
        row["TagList"] = [tag for tag in row["TagList"] if tag["Key"] != fields["TagKeys.member.1"]]
        return {}

    def _by_arn(self, fields: dict[str, str]) -> dict[str, Any]:
        return self.named(fields["ResourceName"].rpartition(":")[2])

    def _advance(self, resource_id: str) -> None:
        if resource_id not in self._changes:
            return
        row = self.instances[resource_id]
        changes, left = self._changes[resource_id]
        if left > 0:
            if left <= self.lag and row["DBInstanceStatus"] == "available":
                row["DBInstanceStatus"] = changes.get("DBInstanceStatus", "modifying")
            self._changes[resource_id] = (changes, left - 1)
            return
        del self._changes[resource_id]
        if "DBInstanceStatus" in changes:
            del self.instances[resource_id]
            for other in self.instances.values():
                if row["DBInstanceIdentifier"] in other.get("ReadReplicaDBInstanceIdentifiers", []):
                    other["ReadReplicaDBInstanceIdentifiers"].remove(row["DBInstanceIdentifier"])
            return
        row.update(changes, DBInstanceStatus="available", PendingModifiedValues={})
        self._named(row, row["DBInstanceIdentifier"])

    @staticmethod
    def _named(row: dict[str, Any], name: str) -> None:
        row["DBInstanceIdentifier"] = name
        row["DBInstanceArn"] = f"arn:aws:rds:{REGION}:{ACCOUNT}:db:{name}"
        row["Endpoint"] = {"Address": f"{name}.abc.{REGION}.rds.amazonaws.com", "Port": 15432}

    @staticmethod
    def _secret(row: dict[str, Any]) -> dict[str, str]:
        arn = _SECRET.format(region=REGION, account=ACCOUNT, id=row["DbiResourceId"])
        return {"SecretArn": arn, "SecretStatus": "active", "KmsKeyId": row.get("KmsKeyId", "key")}


def _properties(fields: dict[str, str]) -> dict[str, Any]:
    """Return the properties of an instance in a request."""
    found: dict[str, Any] = {key: fields[key] for key in _TEXTS if key in fields}
    found |= {key: int(fields[key]) for key in _NUMBERS if key in fields}
    found |= {key: fields[key] == "true" for key in _FLAGS if key in fields}
    if group := fields.get("DBSubnetGroupName"):
        found["DBSubnetGroup"] = {"DBSubnetGroupName": group}
    tags = []
    for number in count(1):
        if (key := fields.get(f"Tags.Tag.{number}.Key")) is None:
            break
        tags.append({"Key": key, "Value": fields[f"Tags.Tag.{number}.Value"]})
    return found | ({"TagList": tags} if tags else {})


@cache
def _output(action: str) -> Any:
    from botocore.session import get_session

    return get_session().get_service_model("rds").operation_model(action).output_shape


def _xml(shape: Any, value: Any) -> str:
    if shape is None:
        return ""
    if shape.type_name == "structure":
        return "".join(
            f"<{name}>{_xml(shape.members[name], each)}</{name}>"
            for name, each in value.items()
            if name in shape.members and each is not None
        )
    if shape.type_name == "list":
        name = shape.member.serialization.get("name", "member")
        return "".join(f"<{name}>{_xml(shape.member, each)}</{name}>" for each in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(value.isoformat() if isinstance(value, datetime) else str(value))
