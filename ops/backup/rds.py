"""Backups on RDS: snapshots, and restores to a point in time in a new instance.

RDS itself archives WAL. Nothing here changes the stack's own instance; ops.backup.rds_adoption does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from infra import outputs
from infra.spec.checkout import Checkout
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.pgbackrest import Progress
from ops.backup.repository import show_time
from ops.errors import Exit, OpsError

# The tag's value is the restore's target, or DRILL.
TAG = "groundwork.restore"
DRILL = "drill"
# States of an instance or snapshot that only a person can end.
_FAILED = ("failed", "incompatible-restore", "incompatible-parameters", "storage-full")
# A restored instance does not inherit these from its source, and would have the account's defaults. Exports of logs are
# left out: RDS would create a log group for each new name, without encryption and retention. `up` sets them after an
# adoption, when the instance has the stack's name and so its log groups.
_KEPT = (
    "DBInstanceClass",
    "MultiAZ",
    "PubliclyAccessible",
    "AutoMinorVersionUpgrade",
    "CopyTagsToSnapshot",
    "DeletionProtection",
    "MaxAllocatedStorage",
    "CACertificateIdentifier",
)


class NoSuchInstance(BackupError):
    """RDS has no instance with that name in the region."""

    exit_code = Exit.UNREACHABLE


@dataclass(frozen=True)
class Snapshot:
    """One snapshot. `kind` is manual (taken by `backup`) or automated (taken daily by RDS)."""

    label: str
    kind: str
    status: str
    created: datetime | None
    size_gb: int


@dataclass(frozen=True)
class Instance:
    """A stack's database on RDS, accessed with a boto3 client. Waits poll every `poll_seconds`."""

    stack: str
    name: str
    client: Any
    poll_seconds: float = 15.0
    timeout_seconds: float = 4 * 3600.0

    @classmethod
    def of(cls, checkout: Checkout, stack: str) -> Instance | None:
        """Return the instance of a stack on AWS, or None for another target."""
        from ops.stack.pulumi_stack import PulumiStack

        target = PulumiStack(checkout, stack)
        found = outputs.rds_instance(target.public_outputs()) if target.exists else None
        return None if found is None else cls.at(*found, stack)

    @classmethod
    def at(cls, region: str, name: str, stack: str, connect_seconds: float | None = None) -> Instance:
        """Return the instance with that name in a region. With `connect_seconds`, requests are not retried."""
        return cls(stack, name, _client(region, connect_seconds))

    def client_in(self, region: str) -> Any:
        """Return a client for RDS in another region."""
        return _client(region)

    def described(self, **filters: object) -> list[dict[str, Any]]:
        """Return RDS's descriptions of the account's instances in the region, or of those that a filter selects."""
        with translated_errors():
            pages = self.client.get_paginator("describe_db_instances").paginate(**filters)
            return [row for page in pages for row in page["DBInstances"]]

    def describe(self, name: str | None = None) -> dict[str, Any]:
        """Return RDS's description of an instance. Raise NoSuchInstance if it does not exist."""
        with translated_errors():
            found = self.client.describe_db_instances(DBInstanceIdentifier=name or self.name)
        return dict(found["DBInstances"][0])

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots, the oldest first."""
        with translated_errors():
            pages = self.client.get_paginator("describe_db_snapshots").paginate(
                DBInstanceIdentifier=self.name
            )
            rows = [row for page in pages for row in page["DBSnapshots"]]
        found = [
            Snapshot(
                row["DBSnapshotIdentifier"],
                row["SnapshotType"],
                row["Status"],
                row.get("SnapshotCreateTime"),
                row["AllocatedStorage"],
            )
            for row in rows
        ]
        return sorted(found, key=lambda s: (s.created is None, s.created))

    def window(self) -> tuple[datetime, datetime]:
        """Return the earliest and the latest time that can be restored. Raise BackupError if RDS keeps no WAL."""
        instance = self.describe()
        newest = instance.get("LatestRestorableTime")
        if not instance.get("BackupRetentionPeriod"):
            raise BackupError(
                f"RDS keeps no backups of {self.name}; set its retention period to seven days or more"
            )
        if newest is None:
            raise BackupError(
                f"RDS has not finished the first backup of {self.name}; run the command again when it has"
            )
        with translated_errors():
            kept = self.client.describe_db_instance_automated_backups(DBInstanceIdentifier=self.name)
        # RDS also lists the retained backups of deleted instances that had this name.
        windows = [
            row["RestoreWindow"]
            for row in kept["DBInstanceAutomatedBackups"]
            if row.get("RestoreWindow")
            and row.get("Status") == "active"
            and row.get("DbiResourceId") == instance["DbiResourceId"]
        ]
        oldest = windows[0].get("EarliestTime") if windows else None
        retained = newest - timedelta(days=instance["BackupRetentionPeriod"])
        return oldest or max(instance["InstanceCreateTime"], retained), newest

    def take(self, progress: Progress) -> Snapshot:
        """Take a snapshot and wait until it is available. If a killed run has started one, wait for that one."""
        pending = [s for s in self.snapshots() if s.kind == "manual" and s.status == "creating"]
        if pending:
            label = pending[-1].label
            progress(f"snapshot {label} is in progress; waiting for it")
        else:
            label = f"{self.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            progress(f"taking snapshot {label}")
            with translated_errors():
                self.client.create_db_snapshot(DBSnapshotIdentifier=label, DBInstanceIdentifier=self.name)
        self.wait_available(
            label, lambda: next(s.status for s in self.snapshots() if s.label == label), progress
        )
        return next(s for s in self.snapshots() if s.label == label)

    def restore(self, moment: datetime | None, progress: Progress) -> dict[str, Any]:
        """Restore to a point in time (None: latest) in a new instance, and return RDS's description of it.

        After a kill, the same call resumes with the instance that was started. For a point in time it also returns a
        finished one, which may have changed since.
        """
        self.require_window(moment)
        target = "LATEST" if moment is None else show_time(moment)
        begun = self._begun(target)
        if begun is None:
            name = f"{self.name}-restored-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            progress(f"restoring {self.name} to {target} as {name}")
            self.restore_as(name, moment, target)
        else:
            name = str(begun["DBInstanceIdentifier"])
            is_finished = begun["DBInstanceStatus"] == "available"
            progress(
                f"{name} was restored to {target} at {show_time(begun['InstanceCreateTime'])}, and may have changed"
                " since; to restore again, delete it first"
                if is_finished
                else f"{name} is already being restored to {target}; resuming"
            )
        self.wait_available(name, lambda: str(self.describe(name)["DBInstanceStatus"]), progress)
        return self.describe(name)

    def require_window(self, moment: datetime | None) -> None:
        """Raise OutsideWindow if a restore cannot reach the moment."""
        oldest, newest = self.window()
        if moment is not None and not oldest <= moment <= newest:
            raise OutsideWindow(
                f"cannot restore to {show_time(moment)}; the window is {show_time(oldest)} to {show_time(newest)}"
            )

    def restore_as(self, name: str, moment: datetime | None, target: str) -> None:
        """Start the restore of a new instance with that name. `target` goes into its tag."""
        source = self.describe()
        wanted = {key: source[key] for key in _KEPT if key in source}
        if target == DRILL:
            wanted |= {"MultiAZ": False, "DeletionProtection": False}
        if source.get("DBSubnetGroup"):
            wanted["DBSubnetGroupName"] = source["DBSubnetGroup"]["DBSubnetGroupName"]
        if source.get("DBParameterGroups"):
            wanted["DBParameterGroupName"] = source["DBParameterGroups"][0]["DBParameterGroupName"]
        aim: dict[str, Any] = {"UseLatestRestorableTime": True} if moment is None else {"RestoreTime": moment}
        with translated_errors():
            self.client.restore_db_instance_to_point_in_time(
                SourceDBInstanceIdentifier=self.name,
                TargetDBInstanceIdentifier=name,
                VpcSecurityGroupIds=[g["VpcSecurityGroupId"] for g in source.get("VpcSecurityGroups", [])],
                EnableIAMDatabaseAuthentication=bool(source.get("IAMDatabaseAuthenticationEnabled")),
                Tags=[*_own_tags(source), {"Key": TAG, "Value": target}],
                **aim,
                **wanted,
            )

    def _begun(self, target: str) -> dict[str, Any] | None:
        """Return RDS's description of the instance that an earlier call started for this target, if any."""
        for row in self.described():
            is_ours = row["DBInstanceIdentifier"].startswith(f"{self.name}-restored-")
            # LATEST means another time in a later run, so that only an unfinished instance matches.
            is_it = tags_of(row).get(TAG) == target and (
                target != "LATEST" or row["DBInstanceStatus"] != "available"
            )
            # The same command would wait for it in vain.
            is_lost = row["DBInstanceStatus"] in (*_FAILED, "deleting")
            if is_ours and is_it and not is_lost:
                return row
        return None

    def wait_available(self, what: str, status: Callable[[], str], progress: Progress) -> None:
        """Wait for a snapshot or an instance. Raise BackupError if it fails or the wait times out."""
        deadline = time.monotonic() + self.timeout_seconds
        reported = ""
        while (now := status()) != "available":
            if now in _FAILED:
                raise BackupError(f"{what} is {now}; see the instance's events in the RDS console")
            if time.monotonic() > deadline:
                raise BackupError(
                    f"{what} is still {now} after {self.timeout_seconds:.0f} s; run the same command again to resume"
                )
            if now != reported:
                progress(f"{what} is {now}")
                reported = now
            time.sleep(self.poll_seconds)


def tags_of(row: dict[str, Any]) -> dict[str, str]:
    """Return the tags in RDS's description of an instance."""
    return {tag["Key"]: tag["Value"] for tag in row.get("TagList", [])}


def _own_tags(source: dict[str, Any]) -> list[dict[str, str]]:
    """Return the source's tags that may be copied. aws: tags may not, and those of restores are the source's own."""
    return [t for t in source.get("TagList", []) if not t["Key"].startswith(("aws:", "groundwork."))]


def _client(region: str, connect_seconds: float | None = None) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise OpsError("a stack on AWS needs boto3, which is not installed; run `make .venv`") from error
    hurried = Config(connect_timeout=connect_seconds, retries={"total_max_attempts": 1})
    return boto3.client("rds", region_name=region, config=None if connect_seconds is None else hurried)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise botocore's errors as OpsError. Every request to RDS goes through here."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        reason = error.response.get("Error", {})
        code, message = str(reason.get("Code", "")), str(reason.get("Message", error))
        missing = code.startswith("DBInstanceNotFound")
        raise (NoSuchInstance if missing else BackupError)(f"RDS: {message}") from error
    except BotoCoreError as error:
        raise OpsError(f"cannot reach RDS: {error}", Exit.UNREACHABLE) from error
