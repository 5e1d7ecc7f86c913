"""`backup`, `restore` and `drill` for stacks on AWS: their results as JSON and as text."""

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
    """Return a snapshot as JSON."""
    return {
        "label": snapshot.label,
        "type": snapshot.kind,
        "status": snapshot.status,
        "createdAt": None if snapshot.created is None else snapshot.created.isoformat(),
        "sizeBytes": snapshot.size_gb * 1024**3,
    }


def listing(instance: Instance) -> dict[str, Any]:
    """Return snapshots and the restore window as JSON."""
    oldest, newest = instance.window()
    return {
        "backups": [snapshot_row(s) for s in instance.snapshots()],
        "windows": [{"from": oldest.isoformat(), "to": newest.isoformat()}],
    }


def listing_lines(document: dict[str, Any]) -> list[str]:
    """Render a listing as lines of text."""
    rows = [
        f"{row['label']:<48}{row['type']:<11}{row['status']:<11}{row['sizeBytes'] // 1024**3:>6}GB"
        f"  {row['createdAt'] or ''}"
        for row in document["backups"]
    ]
    windows = [f"can be restored: {window['from']} to {window['to']}" for window in document["windows"]]
    return [f"{'snapshot':<48}{'type':<11}{'status':<11}{'size':>8}  created", *rows, *windows]


def restore(instance: Instance, moment: datetime | None, progress: Progress) -> dict[str, Any]:
    """Restore to a new instance. `switch` lists the commands that put it in place of the old one."""
    restored = instance.restore(moment, progress)
    name = restored["DBInstanceIdentifier"]
    modify = "aws rds modify-db-instance --apply-immediately --db-instance-identifier"
    # Pulumi and the IAM permissions identify an instance by this id, so that renaming alone is not enough.
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
            # Cached entries may be of rows that the restore has removed.
            f"groundwork cache flush --all --yes --confirm {instance.stack} --stack {instance.stack}",
        ],
    }


def restore_lines(document: dict[str, Any]) -> list[str]:
    """Describe the restored instance, and how to switch to it."""
    return [
        f"restored {document['instance']} to {document['target']}; inspect it at {document['endpoint']}.",
        "The stack still uses its own instance, which is unchanged. To switch, stop the application and run",
        *(f"  {command}" for command in document["switch"]),
        "The endpoint follows the instance's name, so that applications use the same address for the restored"
        " instance. They can log in once `up` has granted them access to it. Run the flush in a shell that can"
        " reach Redis (docs/aws.md).",
    ]


def drill(
    instance: Instance, moment: datetime | None, max_rpo: float | None, ca_file: str, progress: Progress
) -> Evidence:
    """Run a drill on RDS. The smoke test logs in as role app with an IAM token, so it has to reach the instance."""

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
