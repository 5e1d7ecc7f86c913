"""`backup`, `restore` and `drill` for stacks on AWS: their results as JSON and as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cache.errors import CacheSettingError
from cache.settings import CacheSettings
from infra import outputs
from infra.spec.roles import LOGINS
from ops.backup.evidence import Evidence
from ops.backup.pgbackrest import Progress
from ops.backup.post_restore import invalidate_namespaces
from ops.backup.rds import Instance, Snapshot
from ops.backup.rds_adoption import Adoption
from ops.backup.rds_drill import MAX_RPO_SECONDS
from ops.backup.rds_drill import drill as drill_instance
from ops.backup.repository import show_time
from ops.errors import OpsError
from ops.stack.pulumi_stack import PulumiStack


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
    """Restore to a new instance. `adopt` in the result is the command that makes it the stack's own."""
    restored = instance.restore(moment, progress)
    name = restored["DBInstanceIdentifier"]
    return {
        "restore": "done",
        "target": "LATEST" if moment is None else show_time(moment),
        "instance": name,
        "resourceId": restored["DbiResourceId"],
        "createdAt": restored["InstanceCreateTime"].isoformat(),
        "endpoint": restored.get("Endpoint", {}).get("Address"),
        "adopt": f"groundwork restore --adopt {name} --stack {instance.stack}",
    }


def restore_lines(document: dict[str, Any]) -> list[str]:
    """Describe the restored instance, and how to switch to it."""
    return [
        f"restored {document['instance']} to {document['target']}; inspect it at {document['endpoint']}.",
        "The stack still uses its own instance, which is unchanged. If the stack has a permissions boundary, first add"
        f" {document['resourceId']} to it (docs/aws-operations.md). To switch, stop the application and run",
        f"  {document['adopt']}",
    ]


def adopt(
    adoption: Adoption,
    backup: Path,
    check_up: Callable[[PulumiStack], None],
    progress: Progress,
    *,
    to_stderr: bool,
) -> dict[str, Any]:
    """Put a restored instance in place of the stack's, update the stack, and invalidate its cache. Idempotent.

    The state is copied to `backup` before it is changed. `check_up` raises an error if the update is not safe.
    """
    target, stack = adoption.target, adoption.instance.stack
    adoption.rename(progress)
    adoption.change_state(backup, progress)
    progress("reading the instance into Pulumi's state")
    target.refresh(to_stderr=to_stderr)
    check_up(target)
    progress("granting the logins, and applying roles and migrations")
    target.up(to_stderr=to_stderr)
    progress("invalidating the cache")
    flush = None
    try:
        invalidate_namespaces(_cache_settings(target.outputs()))
    except (OpsError, CacheSettingError) as error:
        progress(str(error))
        flush = f"groundwork cache flush --all --yes --confirm {stack} --stack {stack}"
    return {
        "restore": "adopted",
        "instance": adoption.instance.name,
        "kept": adoption.kept,
        "flush": flush,
    }


def adoption_lines(document: dict[str, Any]) -> list[str]:
    """Describe the adopted instance, and what is left to do."""
    name, kept = document["instance"], document["kept"]
    lines = [
        f"{name} is now the restored instance. The previous one is {kept}. It costs money until you delete it."
    ]
    if document["flush"]:
        lines += [
            "The cache could not be invalidated from here, and may contain rows that the restore removed. Before you"
            " start the application, run this command where Redis can be reached (docs/aws-operations.md#verify):",
            f"  {document['flush']}",
        ]
    return lines


def _cache_settings(values: dict[str, Any]) -> CacheSettings:
    """Return the settings for user ops of a stack on AWS, from its outputs."""
    environment = {
        **values[outputs.LOGIN_ENVIRONMENT],
        "REDIS_URL": values[outputs.REDIS_URLS]["ops"],
        "GROUNDWORK_NEAR_CACHE_ENTRIES": "0",
    }
    return CacheSettings.from_environment(environment)


def drill(
    instance: Instance,
    moment: datetime | None,
    max_rpo: float | None,
    ca_file: str,
    migrations: Path,
    progress: Progress,
) -> Evidence:
    """Run a drill on RDS. It logs in with IAM tokens to the restored instance, so it has to reach that.

    `migrations` is the stack's folder of migrations. Roles and privileges are those of the restored time.
    """

    def url_of(restored: dict[str, Any], role: str) -> str:
        endpoint, login = restored["Endpoint"], LOGINS[role][0].name
        token = instance.client.generate_db_auth_token(
            DBHostname=endpoint["Address"],
            Port=endpoint["Port"],
            DBUsername=login,
            Region=instance.client.meta.region_name,
        )
        return outputs.database_url(
            login=login, password=token, host=endpoint["Address"], port=endpoint["Port"], ca_file=ca_file
        )

    return drill_instance(instance, moment, max_rpo or MAX_RPO_SECONDS, migrations, url_of, progress)
