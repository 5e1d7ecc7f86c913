"""The snapshot of awsPostgresSnapshot, from which RDS creates the instance. It is checked before `up` creates anything.

A restored instance has the snapshot's key, administrator and storage. If one of them differed from the program, the
provider would replace the instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.aws.session import client, translated_errors
from infra.settings import StackSettings
from infra.settings.declaration import full
from infra.spec import rds
from infra.spec.errors import SettingError
from infra.spec.quantity import parse_gib

_KEY = full("awsPostgresSnapshot")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that RDS can restore, and the ARN of its key."""

    identifier: str
    key: str

    @classmethod
    def for_new_instance(cls, name: str, settings: StackSettings) -> Snapshot | None:
        """Return the snapshot for an instance that does not exist yet, or None.

        Raise SettingError if an instance from the snapshot would differ from what the program declares.
        """
        identifier = settings.aws_postgres_snapshot
        if not identifier or _exists(client("rds", settings.aws_region), name):
            return None
        row = _row(client("rds", settings.aws_region), identifier)
        _require_restorable(identifier, row, settings)
        return cls(identifier, str(row["KmsKeyId"]))


def _exists(api: Any, name: str) -> bool:
    from botocore.exceptions import ClientError

    with translated_errors(f"looking for instance {name}"):
        try:
            api.describe_db_instances(DBInstanceIdentifier=name)
        except ClientError as error:
            if error.response["Error"]["Code"].startswith("DBInstanceNotFound"):
                return False
            raise
    return True


def _row(api: Any, identifier: str) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    with translated_errors(f"reading snapshot {identifier}"):
        try:
            rows = api.describe_db_snapshots(DBSnapshotIdentifier=identifier)["DBSnapshots"]
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith("DBSnapshotNotFound"):
                raise
            rows = []
    if not rows:
        raise SettingError(
            _KEY,
            f"there is no snapshot {identifier} of this account in the region",
            "list them with `aws rds describe-db-snapshots`; first copy a snapshot of another account or region",
        )
    return dict(rows[0])


def _require_restorable(identifier: str, row: Mapping[str, Any], settings: StackSettings) -> None:
    storage = parse_gib(settings.aws_postgres_storage)
    for is_wrong, reason, remedy in (
        (row["Status"] != "available", f"{identifier} is {row['Status']}", "wait until it is available"),
        (
            row["Engine"] != "postgres" or row["EngineVersion"].partition(".")[0] != rds.MAJOR,
            f"{identifier} is of {row['Engine']} {row['EngineVersion']}",
            f"name a snapshot of Postgres {rds.MAJOR}",
        ),
        (
            row.get("MasterUsername") != rds.ADMIN,
            f"the administrator of {identifier} is {row.get('MasterUsername')}, not {rds.ADMIN}",
            "name a snapshot of a groundwork stack",
        ),
        (
            not row.get("Encrypted"),
            f"{identifier} is not encrypted",
            "copy it with `aws rds copy-db-snapshot --kms-key-id`, and name the copy",
        ),
        (
            row["AllocatedStorage"] > storage,
            f"{identifier} needs {row['AllocatedStorage']}GB, more than {full('awsPostgresStorage')}",
            f"set {full('awsPostgresStorage')} to {row['AllocatedStorage']}GB or more",
        ),
    ):
        if is_wrong:
            raise SettingError(_KEY, reason, remedy)
