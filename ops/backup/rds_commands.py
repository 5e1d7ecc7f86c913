"""What `backup`, `restore` and `drill` do and say where a stack's target is AWS."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ops.backup.checks import read_through
from ops.backup.evidence import Evidence
from ops.backup.pgbackrest import Progress
from ops.backup.rds import Instance, Snapshot
from ops.backup.rds_drill import MAX_RPO_SECONDS
from ops.backup.rds_drill import drill as drill_instance
from ops.backup.repository import show_time


def snapshot_row(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON takes it."""
    return {
        "label": snapshot.label,
        "type": snapshot.kind,
        "status": snapshot.status,
        "createdAt": None if snapshot.created is None else snapshot.created.isoformat(),
        "sizeBytes": snapshot.size_gb * 1024**3,
    }


def listing(instance: Instance) -> dict[str, Any]:
    """Snapshots and the window, as JSON takes them."""
    oldest, newest = instance.window()
    return {
        "backups": [snapshot_row(s) for s in instance.snapshots()],
        "windows": [{"from": oldest.isoformat(), "to": newest.isoformat()}],
    }


def listing_text(document: dict[str, Any]) -> str:
    """The same for people."""
    rows = [
        f"{row['label']:<48}{row['type']:<11}{row['status']:<11}{row['sizeBytes'] // 1024**3:>6}GB"
        f"  {row['createdAt'] or ''}"
        for row in document["backups"]
    ]
    windows = [f"can be restored: {window['from']} to {window['to']}" for window in document["windows"]]
    return "\n".join([f"{'snapshot':<48}{'type':<11}{'status':<11}{'size':>8}  created", *rows, *windows])


def restore(instance: Instance, moment: datetime | None, progress: Progress) -> dict[str, Any]:
    """Restore into a new instance; `switch` has the commands that put it in the old one's place."""
    restored = instance.restore(moment, progress)
    name = restored["DBInstanceIdentifier"]
    modify = "aws rds modify-db-instance --apply-immediately --db-instance-identifier"
    # Pulumi knows an instance by this, and so do the permissions to log in: a name that changes hands is not enough.
    old, new = instance.describe()["DbiResourceId"], restored["DbiResourceId"]
    return {
        "restore": "done",
        "target": "LATEST" if moment is None else show_time(moment),
        "instance": name,
        "endpoint": restored.get("Endpoint", {}).get("Address"),
        "switch": [
            f"{modify} {instance.name} --new-db-instance-identifier {instance.name}-before",
            f"{modify} {name} --new-db-instance-identifier {instance.name}",
            f"aws rds wait db-instance-available --db-instance-identifier {instance.name}",
            f'eval "$(groundwork shellenv --stack {instance.stack})"',
            f"""pulumi stack export | sed 's/"id": "{old}"/"id": "{new}"/' | pulumi stack import""",
            "pulumi refresh --yes",
            f"groundwork up --stack {instance.stack}",
            # Some of what is cached is of rows that the restore took back.
            f"groundwork cache flush --all --yes --confirm {instance.stack} --stack {instance.stack}",
        ],
    }


def restore_text(document: dict[str, Any]) -> str:
    """What is there now, and how to switch to it."""
    return "\n".join(
        [
            f"{document['instance']} is restored to {document['target']}: look at it ({document['endpoint']}).",
            "The stack's own instance is as it was, and still the one in use. To switch, stop the application, then",
            *(f"  {command}" for command in document["switch"]),
            "An identifier is the endpoint's name: applications find the restored one under the old address, and get in"
            " once `up` has made the permissions to log in those of the restored one. The flush wants a shell from"
            " where Redis is reached (docs/aws.md).",
        ]
    )


def drill(
    instance: Instance, moment: datetime | None, max_rpo: float | None, ca_file: str, progress: Progress
) -> Evidence:
    """A drill on RDS, which reads as role app with a token of IAM's; from where the instance is reached."""

    def smoke(restored: dict[str, Any]) -> str:
        from infra.outputs import database_url

        endpoint = restored["Endpoint"]
        region = instance.client.meta.region_name
        token = instance.client.generate_db_auth_token(
            DBHostname=endpoint["Address"], Port=endpoint["Port"], DBUsername="app_a", Region=region
        )
        url = database_url(
            login="app_a", password=token, host=endpoint["Address"], port=endpoint["Port"], ca_file=ca_file
        )
        users, activities = read_through(url)
        return f"{users} users read, {activities} activities in their feeds"

    return drill_instance(instance, moment, max_rpo or MAX_RPO_SECONDS, smoke, progress)
