"""`groundwork restore --adopt`: put a restored RDS instance in place of the stack's instance (docs/adr/0047).

Both instances are renamed, so that the endpoint stays the same, and Pulumi's state gets the id of the restored one.
A tag on the replaced instance names its successor. After a kill at any step, the same command resumes from this tag.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.checkpoint import resources_of
from infra.spec import rds
from ops.backup.errors import BackupError
from ops.backup.pgbackrest import Progress
from ops.backup.rds import TAG, Instance, NoSuchInstance, tags_of, translated_errors
from ops.errors import Exit, OpsError
from ops.stack.pulumi_stack import PulumiStack

# A tag of the replaced instance. Its value is NAME/ID of the successor, with the successor's name before the switch.
REPLACED_BY = "groundwork.replaced-by"
_TYPE, _NAME = "aws:rds/instance:Instance", "postgres"
# RDS cannot change these. If one differed from the program, Pulumi would replace the instance with an empty one.
_FIXED: dict[str, Callable[[dict[str, Any]], object]] = {
    "engine": lambda row: row.get("Engine"),
    "major version": lambda row: str(row.get("EngineVersion")).partition(".")[0],
    "administrator": lambda row: row.get("MasterUsername"),
    "encryption key": lambda row: row.get("KmsKeyId"),
    "subnet group": lambda row: (row.get("DBSubnetGroup") or {}).get("DBSubnetGroupName"),
}


@dataclass(frozen=True)
class Adoption:
    """A switch from the instance with the id `old` to the one with the id `new`, restored under the name `restored`."""

    instance: Instance
    target: PulumiStack
    restored: str
    old: str
    new: str
    urn: str

    @classmethod
    def of(cls, instance: Instance, target: PulumiStack, restored: str) -> Adoption:
        """Return a new switch, or the one that a killed run has begun. Change nothing.

        Raise OpsError with exit code 2 if `restored` is the stack's own instance, 4 if the ids in the state and in RDS
        differ, 6 if one of them has no such instance, and 7 if the restored instance cannot replace the stack's.
        """
        found = next(
            (r for r in target.resources() if r["type"] == _TYPE and r["urn"].endswith(f"::{_NAME}")), None
        )
        if found is None:
            raise OpsError(
                f"the state of stack {instance.stack!r} has no RDS instance;"
                f" run `groundwork up --stack {instance.stack}`",
                Exit.UNREACHABLE,
            )
        known, urn = str(found["id"]), str(found["urn"])
        if begun := _begun(instance, restored):
            return cls(instance, target, restored, *begun, urn)
        if restored == instance.name:
            raise OpsError(
                f"{restored} is the stack's own instance; pass the name of a restored one", Exit.USAGE
            )
        old, new = instance.describe(), instance.describe(restored)
        _require_successor(instance, old, new)
        if old["DbiResourceId"] != known:
            raise OpsError(
                f"the state of stack {instance.stack!r} has instance {known}, and {instance.name} is"
                f" {old['DbiResourceId']}; run `groundwork preview --refresh --stack {instance.stack}`, and resolve the"
                " difference first",
                Exit.MISMATCH,
            )
        return cls(instance, target, restored, known, str(new["DbiResourceId"]), urn)

    @property
    def kept(self) -> str:
        """Return the name that the replaced instance gets."""
        return f"{self.instance.name}-before"

    @property
    def consequence(self) -> str:
        """Return what the switch does, for the user to confirm."""
        name, row = self.instance.name, self._row(self.old)
        moment = tags_of(self._row(self.new)).get(TAG)
        since = f" after {moment}" if moment and moment != "LATEST" else " after it was restored"
        replicas = row.get("ReadReplicaDBInstanceIdentifiers", [])
        also = (
            f" Read replicas that are deleted and created again: {', '.join(replicas)}." if replicas else ""
        )
        return (
            f"adopting {self.restored} makes it the database of stack {self.instance.stack!r}. What was written to"
            f" {name}{since} remains only in {self.kept}.{also} Postgres is not available for about 20 minutes"
        )

    def rename(self, progress: Progress) -> None:
        """Give the restored instance the stack's name. Idempotent."""
        self._set_password(progress)
        self._tag_replaced()
        self._stop_copies(progress)
        for replica in self._row(self.old).get("ReadReplicaDBInstanceIdentifiers", []):
            self._delete_replica(str(replica), progress)
        self._rename(self.old, self.instance.name, self.kept, progress)
        self._rename(self.new, self.restored, self.instance.name, progress)

    def change_state(self, backup: Path, progress: Progress) -> None:
        """Write the restored instance's id into Pulumi's state, and the previous state to `backup`. Idempotent."""

        def change(deployment: dict[str, Any]) -> bool:
            found: dict[str, Any] = next((r for r in resources_of(deployment) if r["urn"] == self.urn), {})
            if found.get("id") == self.new:
                return False
            if found.get("id") != self.old:
                raise OpsError(
                    f"the state of stack {self.instance.stack!r} has instance {found.get('id')}, not"
                    f" {self.old}; another command has changed it, see docs/aws-operations.md#restore",
                    Exit.MISMATCH,
                )
            found["id"] = self.new
            outputs = found.get("outputs") or {}
            outputs.update({key: self.new for key in ("id", "resourceId") if outputs.get(key) == self.old})
            return True

        progress(f"replacing {self.old} with {self.new} in Pulumi's state")
        self.target.edit_state(change, backup)

    def _set_password(self, progress: Progress) -> None:
        """Let RDS manage the administrator's password, or set the one in the stack's secret, as for the old instance.

        The restored instance has the password that was valid at the restored time, and RDS does not manage it. A
        refresh does not show this difference, so `up` would not correct it.
        """
        old, new = self._row(self.old), self._row(self.new)
        if new["DBInstanceIdentifier"] != self.restored:
            return
        progress(f"setting the administrator's password of {self.restored}")
        if secret := old.get("MasterUserSecret"):
            if not new.get("MasterUserSecret"):
                changes = {"ManageMasterUserPassword": True, "MasterUserSecretKmsKeyId": secret["KmsKeyId"]}
                self._modify(self.new, progress, **changes)
            self._wait(self.new, f"the password of {self.restored}", progress, _has_active_secret)
        else:
            password = self.target.resource_outputs("postgres-admin")["value"]
            self._modify(self.new, progress, MasterUserPassword=password)

    def _tag_replaced(self) -> None:
        with translated_errors():
            self.instance.client.add_tags_to_resource(
                ResourceName=self._row(self.old)["DBInstanceArn"],
                Tags=[{"Key": REPLACED_BY, "Value": f"{self.restored}/{self.new}"}],
            )

    def _stop_copies(self, progress: Progress) -> None:
        """Stop copying the replaced instance's backups to other regions. `up` copies the restored one's."""
        row = self._row(self.old)
        for each in row.get("DBInstanceAutomatedBackupsReplications", []):
            region = str(each["DBInstanceAutomatedBackupsArn"]).split(":")[3]
            progress(
                f"stopping the copies of backups in {region}; `up` starts them again for the restored instance"
            )
            try:
                with translated_errors():
                    self.instance.client_in(region).stop_db_instance_automated_backups_replication(
                        SourceDBInstanceArn=row["DBInstanceArn"]
                    )
            except BackupError as error:
                # A killed run has already stopped them.
                if not _is_busy(error):
                    raise
        self._wait(
            self.old,
            self.instance.name,
            progress,
            lambda r: not r.get("DBInstanceAutomatedBackupsReplications"),
        )

    def _delete_replica(self, name: str, progress: Progress) -> None:
        """Delete a read replica of the replaced instance, because `up` creates one of the same name."""
        client = self.instance.client
        try:
            row = self.instance.describe(name)
            resource_id = str(row["DbiResourceId"])
            progress(f"deleting {name}, a read replica of the replaced instance")
            if row.get("DeletionProtection"):
                self._modify(resource_id, progress, DeletionProtection=False)
                self._wait(resource_id, name, progress, lambda r: not r.get("DeletionProtection"))
            self._request(
                resource_id,
                lambda now: client.delete_db_instance(DBInstanceIdentifier=now, SkipFinalSnapshot=True),
                progress,
            )
            self._wait(resource_id, name, progress, lambda _: False)
        except NoSuchInstance:
            return

    def _rename(self, resource_id: str, before: str, after: str, progress: Progress) -> None:
        row = self._row(resource_id)
        if row["DBInstanceIdentifier"] == before:
            progress(f"renaming {before} to {after}")
            if "DBInstanceIdentifier" not in (row.get("PendingModifiedValues") or {}):
                self._modify(resource_id, progress, NewDBInstanceIdentifier=after)
        self._wait(resource_id, after, progress, lambda r: bool(r["DBInstanceIdentifier"] == after))

    def _modify(self, resource_id: str, progress: Progress, **changes: object) -> None:
        """Change an instance immediately."""
        client = self.instance.client
        self._request(
            resource_id,
            lambda name: client.modify_db_instance(
                DBInstanceIdentifier=name, ApplyImmediately=True, **changes
            ),
            progress,
        )

    def _request(self, resource_id: str, send: Callable[[str], object], progress: Progress) -> None:
        """Send a request with the current name of an instance, as soon as RDS has finished earlier changes."""
        deadline = time.monotonic() + self.instance.timeout_seconds
        while True:
            name = str(self._row(resource_id)["DBInstanceIdentifier"])
            self._wait(resource_id, name, progress)
            try:
                with translated_errors():
                    send(name)
                return
            except BackupError as error:
                # RDS reports an instance as available until a requested change begins.
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(self.instance.poll_seconds)

    def _wait(
        self,
        resource_id: str,
        what: str,
        progress: Progress,
        is_done: Callable[[dict[str, Any]], bool] = lambda row: True,
    ) -> None:
        """Wait until the instance is available and the condition is true. RDS may begin a change with a delay."""

        def status() -> str:
            row = self._row(resource_id)
            now = str(row["DBInstanceStatus"])
            return now if now != "available" or is_done(row) else "about to change"

        self.instance.wait_available(what, status, progress)

    def _row(self, resource_id: str) -> dict[str, Any]:
        rows = self.instance.described(Filters=[{"Name": "dbi-resource-id", "Values": [resource_id]}])
        if not rows:
            raise NoSuchInstance(
                f"RDS has no instance {resource_id}; restore again with"
                f" `groundwork restore --to TIME --stack {self.instance.stack}`"
            )
        return rows[0]


def _begun(instance: Instance, restored: str) -> tuple[str, str] | None:
    """Return the ids of the replaced and the restored instance of a switch that has begun, or None."""
    for row in instance.described():
        name, _, new = tags_of(row).get(REPLACED_BY, "").partition("/")
        if name == restored and row["DBInstanceIdentifier"] in (instance.name, f"{instance.name}-before"):
            return str(row["DbiResourceId"]), new
    return None


def _require_successor(instance: Instance, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise OpsError (7) if the new instance cannot replace the old one."""
    name = str(new["DBInstanceIdentifier"])
    if source := new.get("ReadReplicaSourceDBInstanceIdentifier"):
        raise OpsError(f"{name} is a read replica of {source}; promote it first", Exit.REFUSED)
    for what, value in _FIXED.items():
        if value(old) != value(new):
            raise OpsError(
                f"{name} cannot replace {instance.name}: its {what} is {value(new)}, not {value(old)}; restore"
                f" with `groundwork restore --to TIME --stack {instance.stack}`",
                Exit.REFUSED,
            )
    port = (new.get("Endpoint") or {}).get("Port", rds.PORT)
    if port != rds.PORT:
        raise OpsError(f"{name} uses port {port}; change it to {rds.PORT} first", Exit.REFUSED)
    kept = f"{instance.name}-before"
    try:
        instance.describe(kept)
    except NoSuchInstance:
        return
    raise OpsError(f"{kept} exists, from an earlier restore; delete or rename it first", Exit.REFUSED)


def _has_active_secret(row: dict[str, Any]) -> bool:
    return (row.get("MasterUserSecret") or {}).get("SecretStatus") == "active"


def _is_busy(error: BackupError) -> bool:
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", "")).startswith("InvalidDBInstanceState")
