"""The same on RDS: snapshots, and restores to a moment into a new instance.

RDS keeps the WAL and the window itself. Nothing here changes the stack's own instance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from infra import outputs
from infra.spec.world import World
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.pgbackrest import Progress
from ops.backup.repository import show_time
from ops.errors import Exit, OpsError

# What a restored instance is for: the moment, or DRILL.
TAG = "groundwork.restore"
DRILL = "drill"
# What a restored instance does not take over by itself: without them it has the account's defaults.
_KEPT = (
    "DBInstanceClass",
    "MultiAZ",
    "PubliclyAccessible",
    "AutoMinorVersionUpgrade",
    "CopyTagsToSnapshot",
    "DeletionProtection",
)


class NoSuchInstance(BackupError):
    """RDS has no instance of that name in the region."""

    exit_code = Exit.UNREACHABLE


@dataclass(frozen=True)
class Snapshot:
    """One snapshot; `kind` is manual (by `backup`) or automated (RDS's own, daily)."""

    label: str
    kind: str
    status: str
    created: datetime | None
    size_gb: int


@dataclass(frozen=True)
class Instance:
    """A stack's database on RDS, through a boto3 client. `poll_seconds`: how often a wait looks."""

    stack: str
    name: str
    client: Any
    poll_seconds: float = 15.0
    timeout_seconds: float = 4 * 3600.0

    @classmethod
    def of(cls, world: World, stack: str) -> Instance | None:
        """The instance of a stack whose target is aws; None for another target."""
        from ops.pulumi_stack import PulumiStack

        target = PulumiStack(world, stack)
        found = outputs.rds_instance(target.public_outputs()) if target.exists else None
        return None if found is None else cls.at(*found, stack)

    @classmethod
    def at(cls, region: str, name: str, stack: str, connect_seconds: float | None = None) -> Instance:
        """The instance of that name in a region; with `connect_seconds`, RDS is asked once and given up after them."""
        return cls(stack, name, _client(region, connect_seconds))

    def describe(self, name: str | None = None) -> dict[str, Any]:
        """What RDS says of an instance; NoSuchInstance where there is none."""
        with told():
            found = self.client.describe_db_instances(DBInstanceIdentifier=name or self.name)
        return dict(found["DBInstances"][0])

    def snapshots(self) -> list[Snapshot]:
        """Oldest first."""
        with told():
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
        """From when to when a restore is possible. BackupError where RDS keeps no WAL."""
        instance = self.describe()
        newest = instance.get("LatestRestorableTime")
        if not instance.get("BackupRetentionPeriod") or newest is None:
            raise BackupError(f"RDS keeps no backups of {self.name}; set its retention to seven days or more")
        with told():
            kept = self.client.describe_db_instance_automated_backups(DBInstanceIdentifier=self.name)
        windows = [
            row["RestoreWindow"] for row in kept["DBInstanceAutomatedBackups"] if row.get("RestoreWindow")
        ]
        oldest = windows[0].get("EarliestTime") if windows else None
        retained = newest - timedelta(days=instance["BackupRetentionPeriod"])
        return oldest or max(instance["InstanceCreateTime"], retained), newest

    def take(self, progress: Progress) -> Snapshot:
        """Take a snapshot and wait until it is available. One that a killed run began is waited for."""
        pending = [s for s in self.snapshots() if s.kind == "manual" and s.status == "creating"]
        if pending:
            label = pending[-1].label
            progress(f"snapshot {label} is being made already: waiting for it")
        else:
            label = f"{self.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            progress(f"taking snapshot {label}")
            with told():
                self.client.create_db_snapshot(DBSnapshotIdentifier=label, DBInstanceIdentifier=self.name)
        self.wait_available(
            label, lambda: next(s.status for s in self.snapshots() if s.label == label), progress
        )
        return next(s for s in self.snapshots() if s.label == label)

    def restore(self, moment: datetime | None, progress: Progress) -> dict[str, Any]:
        """Restore to a moment (None: the newest) in a new instance, and return what RDS says of that one.

        The same call after a kill finds the instance that it had begun.
        """
        self.require_window(moment)
        target = "LATEST" if moment is None else show_time(moment)
        name = self._begun(target)
        if name is None:
            name = f"{self.name}-restored-{datetime.now(UTC):%Y%m%d-%H%M%S}"
            progress(f"restoring {self.name} to {target} as {name}")
            self.restore_as(name, moment, target)
        else:
            progress(f"{name} is being restored to {target} already: going on with it")
        self.wait_available(name, lambda: str(self.describe(name)["DBInstanceStatus"]), progress)
        return self.describe(name)

    def require_window(self, moment: datetime | None) -> None:
        """OutsideWindow where a restore cannot reach the moment."""
        oldest, newest = self.window()
        if moment is not None and not oldest <= moment <= newest:
            raise OutsideWindow(
                f"{show_time(moment)} cannot be restored; what can: {show_time(oldest)} to {show_time(newest)}"
            )

    def restore_as(self, name: str, moment: datetime | None, target: str) -> None:
        """Begin a new instance of that name. `target` says what it is for, in its tag."""
        source = self.describe()
        wanted = {key: source[key] for key in _KEPT if key in source}
        if target == DRILL:
            wanted |= {"MultiAZ": False, "DeletionProtection": False}
        if source.get("DBSubnetGroup"):
            wanted["DBSubnetGroupName"] = source["DBSubnetGroup"]["DBSubnetGroupName"]
        if source.get("DBParameterGroups"):
            wanted["DBParameterGroupName"] = source["DBParameterGroups"][0]["DBParameterGroupName"]
        if exports := source.get("EnabledCloudwatchLogsExports"):
            wanted["EnableCloudwatchLogsExports"] = exports
        aim: dict[str, Any] = {"UseLatestRestorableTime": True} if moment is None else {"RestoreTime": moment}
        with told():
            self.client.restore_db_instance_to_point_in_time(
                SourceDBInstanceIdentifier=self.name,
                TargetDBInstanceIdentifier=name,
                VpcSecurityGroupIds=[g["VpcSecurityGroupId"] for g in source.get("VpcSecurityGroups", [])],
                EnableIAMDatabaseAuthentication=bool(source.get("IAMDatabaseAuthenticationEnabled")),
                Tags=[*_own_tags(source), {"Key": TAG, "Value": target}],
                **aim,
                **wanted,
            )

    def _begun(self, target: str) -> str | None:
        """The instance that an earlier call began for this target and that is not there yet."""
        with told():
            pages = self.client.get_paginator("describe_db_instances").paginate()
            rows = [row for page in pages for row in page["DBInstances"]]
        for row in rows:
            tags = {tag["Key"]: tag["Value"] for tag in row.get("TagList", [])}
            is_ours = row["DBInstanceIdentifier"].startswith(f"{self.name}-restored-")
            # The newest is another one tomorrow; a moment stays what it is.
            is_it = tags.get(TAG) == target and (target != "LATEST" or row["DBInstanceStatus"] != "available")
            if is_ours and is_it:
                return str(row["DBInstanceIdentifier"])
        return None

    def wait_available(self, what: str, status: Callable[[], str], progress: Progress) -> None:
        """Wait for a snapshot or an instance. BackupError where it will not become available, or not in time."""
        deadline = time.monotonic() + self.timeout_seconds
        told = ""
        while (now := status()) != "available":
            if now in ("failed", "incompatible-restore", "incompatible-parameters", "storage-full"):
                raise BackupError(f"{what} is {now}; the RDS console's events say why")
            if time.monotonic() > deadline:
                raise BackupError(
                    f"{what} is still {now} after {self.timeout_seconds:.0f} s; run it again to go on"
                )
            if now != told:
                progress(f"{what} is {now}")
                told = now
            time.sleep(self.poll_seconds)


def _own_tags(source: dict[str, Any]) -> list[dict[str, str]]:
    """The source's tags that can be given again: AWS's own cannot, and one that was restored has ours already."""
    return [t for t in source.get("TagList", []) if t["Key"] != TAG and not t["Key"].startswith("aws:")]


def _client(region: str, connect_seconds: float | None = None) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise OpsError(
            "boto3 is not installed, which a stack on AWS needs; install the extra: pip install -e '.[aws]'"
        ) from error
    hurried = Config(connect_timeout=connect_seconds, retries={"total_max_attempts": 1})
    return boto3.client("rds", region_name=region, config=None if connect_seconds is None else hurried)


@contextmanager
def told() -> Iterator[None]:
    """The one place where botocore's errors become ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        reason = error.response.get("Error", {})
        code, message = str(reason.get("Code", "")), str(reason.get("Message", error))
        missing = code.startswith("DBInstanceNotFound")
        raise (NoSuchInstance if missing else BackupError)(f"RDS: {message}") from error
    except BotoCoreError as error:
        raise OpsError(f"RDS is not to be reached: {error}", Exit.UNREACHABLE) from error
