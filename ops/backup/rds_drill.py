"""A restore drill on RDS: restore to a random point in time in a temporary instance, and check it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from ops.backup import checks
from ops.backup.errors import BackupError
from ops.backup.evidence import CheckFailed, Evidence
from ops.backup.pgbackrest import Progress
from ops.backup.rds import DRILL, TAG, Instance, NoSuchInstance, translated_errors

CHECKS = ("archive", "recovery", "settings", "migrations", "smoke", "cleanup")
# RDS archives WAL every five minutes. This allows for one late upload.
MAX_RPO_SECONDS = 600.0


def drill(
    instance: Instance,
    moment: datetime | None,
    max_rpo: float,
    migrations: Path,
    url_of: Callable[[dict[str, Any], str], str],
    progress: Progress,
) -> Evidence:
    """Restore to `moment`, or a random point in time, in a temporary instance, and delete it.

    `migrations` is the stack's folder of migrations. `url_of(description, role)` returns a connection string of an
    instance. Raise OutsideWindow if `moment` cannot be reached.
    """
    evidence = Evidence(instance.stack, datetime.now(UTC), check_names=CHECKS)
    name = f"{instance.name}-drill"
    source = instance.describe()
    instance.require_window(moment)
    oldest, newest = instance.window()
    with evidence.check("archive", progress, "checking the latest restorable time") as check:
        evidence.rpo_seconds = round((datetime.now(UTC) - newest).total_seconds(), 3)
        if evidence.rpo_seconds > max_rpo:
            raise CheckFailed(
                f"the RPO is {evidence.rpo_seconds:.0f} s, but at most {max_rpo:.0f} s are allowed"
            )
        check.detail = f"the latest restorable time is {evidence.rpo_seconds:.0f} s old"
    is_begun = False
    try:
        with evidence.check("recovery", progress, f"restoring as {name}") as check:
            span = (newest - oldest).total_seconds()
            aimed = moment or oldest + timedelta(seconds=random.SystemRandom().uniform(0, span))
            evidence.aimed_for = aimed
            _sweep(instance, name, progress)
            is_begun = True
            began = time.monotonic()
            instance.restore_as(name, aimed, DRILL)
            instance.wait_available(name, lambda: str(instance.describe(name)["DBInstanceStatus"]), progress)
            evidence.rto_seconds = round(time.monotonic() - began, 3)
            restored = instance.describe(name)
            check.detail = f"{name} is available"
        if check.ok:
            _check_restored(evidence, source, restored, migrations, partial(url_of, restored), progress)
    finally:
        if is_begun:
            with evidence.check("cleanup", progress, "removing the temporary instance") as check:
                _delete(instance, name, progress)
                check.detail = f"{name} is being deleted"
        evidence.ended_at = datetime.now(UTC)
    return evidence


def _check_restored(
    evidence: Evidence,
    source: dict[str, Any],
    restored: dict[str, Any],
    migrations: Path,
    url_of: Callable[[str], str],
    progress: Progress,
) -> None:
    with evidence.check("settings", progress, "comparing the instance's settings") as check:
        check.detail = _same_settings(source, restored)
    with evidence.check("migrations", progress, "applying the migrations after that time") as check:
        check.detail = checks.apply_later_migrations(migrations, url_of)
    if check.ok:
        with evidence.check("smoke", progress, "reading through the data access (smoke test)") as check:
            check.detail, evidence.rows = checks.smoke(url_of("app"))


def _sweep(instance: Instance, name: str, progress: Progress) -> None:
    """Delete the instance that a killed drill left, and wait until its name is free."""

    def status() -> str:
        return str(instance.describe(name)["DBInstanceStatus"])

    try:
        if status() == "creating":
            # RDS cannot delete an instance before it is created.
            instance.wait_available(name, status, progress)
        _delete(instance, name, progress)
        deadline = time.monotonic() + instance.timeout_seconds
        while status():
            if time.monotonic() > deadline:
                raise BackupError(f"{name}, left by an earlier drill, still exists; delete it")
            time.sleep(instance.poll_seconds)
    except NoSuchInstance:
        return


def _delete(instance: Instance, name: str, progress: Progress) -> None:
    """Delete a drill's instance, if it exists, together with its automated backups."""
    try:
        found = instance.describe(name)
    except NoSuchInstance:
        return
    if {"Key": TAG, "Value": DRILL} not in found.get("TagList", []):
        raise BackupError(
            f"instance {name} does not belong to a drill; rename it, because drills use this name"
        )
    if found["DBInstanceStatus"] == "deleting":
        return
    progress(f"deleting {name}")
    with translated_errors():
        if found.get("DeletionProtection"):
            instance.client.modify_db_instance(
                DBInstanceIdentifier=name, DeletionProtection=False, ApplyImmediately=True
            )
        instance.client.delete_db_instance(
            DBInstanceIdentifier=name, SkipFinalSnapshot=True, DeleteAutomatedBackups=True
        )


def _same_settings(source: dict[str, Any], restored: dict[str, Any]) -> str:
    """Compare security settings, and settings that RDS would replace by the account's defaults."""
    keys = ("StorageEncrypted", "PubliclyAccessible", "EngineVersion", "IAMDatabaseAuthenticationEnabled")
    differing = [key for key in keys if source.get(key) != restored.get(key)]
    for key, part in (
        ("VpcSecurityGroups", "VpcSecurityGroupId"),
        ("DBParameterGroups", "DBParameterGroupName"),
    ):
        if {row[part] for row in source.get(key, [])} != {row[part] for row in restored.get(key, [])}:
            differing.append(key)
    if differing:
        raise CheckFailed(f"the restored instance differs in {', '.join(differing)}")
    return "encryption, exposure, groups and version match the source"
