"""Backups on RDS, tested with moto: snapshots, restores into a new instance, and drills that leave nothing behind."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from moto import mock_aws
from psycopg.conninfo import conninfo_to_dict

from infra import outputs
from infra.aws import trust
from infra.certificates import make_authority
from ops.backup import checks, rds, rds_commands
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.evidence import CheckFailed, Evidence
from ops.backup.rds import TAG, Instance
from ops.backup.rds_drill import drill
from ops.commands.backup import backup, restore
from ops.commands.backup import drill as drill_command
from ops.errors import Exit, OpsError
from ops.stack.pulumi_stack import PulumiStack
from tests.cases import in_case
from tests.promises import promise
from tests.scale import scaled

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client for RDS in an account with a network. Each test has its own instance."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        client = boto3.client("rds", region_name=REGION)
        network = boto3.client("ec2", region_name=REGION)
        vpc = network.describe_vpcs()["Vpcs"][0]["VpcId"]
        subnets = network.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
        client.create_db_subnet_group(
            DBSubnetGroupName="private",
            DBSubnetGroupDescription="private",
            SubnetIds=[subnet["SubnetId"] for subnet in subnets],
        )
        client.create_db_parameter_group(
            DBParameterGroupName="ours", DBParameterGroupFamily="postgres15", Description="ours"
        )
        yield client


@pytest.fixture
def instance(client: Any) -> Instance:
    name = f"gw-{uuid.uuid4().hex[:8]}"
    client.create_db_instance(
        DBInstanceIdentifier=name,
        DBInstanceClass="db.t4g.small",
        Engine="postgres",
        EngineVersion="15.8",
        AllocatedStorage=20,
        MasterUsername="administrator",
        MasterUserPassword="not-a-secret-here",
        BackupRetentionPeriod=7,
        StorageEncrypted=True,
        PubliclyAccessible=False,
        DeletionProtection=True,
        DBSubnetGroupName="private",
        DBParameterGroupName="ours",
        VpcSecurityGroupIds=["sg-12345678"],
        EnableIAMDatabaseAuthentication=True,
        EnableCloudwatchLogsExports=["postgresql", "upgrade"],
    )
    return Instance("prod", name, client, poll_seconds=0.01, timeout_seconds=5)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What drills have read, with which login's connection string. moto has no database."""
    found: list[str] = []

    def migrate(folder: Path, url_of: Callable[[str], str]) -> str:
        found.append(f"{folder.name} with {url_of('migrator')}")
        return "none is pending"

    def read(url: str) -> tuple[str, dict[str, int]]:
        found.append(url)
        return "2 users read", {"users": 2}

    monkeypatch.setattr(checks, "apply_later_migrations", migrate)
    monkeypatch.setattr(checks, "smoke", read)
    return found


def _drill(
    instance: Instance, said: list[str], moment: datetime | None = None, *, max_rpo: float = 600
) -> Evidence:
    def url_of(restored: dict[str, Any], role: str) -> str:
        return f"{role}@{restored['DBInstanceIdentifier']}"

    return drill(instance, moment, max_rpo, Path("migrations"), url_of, said.append)


def _names(instance: Instance) -> set[str]:
    """Return the names that belong to this test, without their common part."""
    found = (row["DBInstanceIdentifier"] for row in instance.client.describe_db_instances()["DBInstances"])
    return {name.removeprefix(instance.name) for name in found if name.startswith(instance.name)}


def test_a_backup_is_a_snapshot(instance: Instance, said: list[str]) -> None:
    made = instance.take(said.append)
    assert made.kind == "manual"
    assert made.status == "available"
    assert made.label in [s.label for s in instance.snapshots()]
    assert made.label in json.dumps(rds_commands.listing(instance))
    assert made.label in "\n".join(rds_commands.listing_lines(rds_commands.listing(instance)))


def test_a_restore_creates_an_instance_with_the_sources_groups(instance: Instance, said: list[str]) -> None:
    document = rds_commands.restore(instance, None, said.append)
    source, restored = instance.describe(), instance.describe(document["instance"])
    assert restored["VpcSecurityGroups"] == source["VpcSecurityGroups"]
    assert restored["DBSubnetGroup"]["DBSubnetGroupName"] == "private"
    assert restored["DBParameterGroups"][0]["DBParameterGroupName"] == "ours"
    assert restored["DeletionProtection"] is True
    # RDS would create a log group without encryption and retention for the new name.
    assert source["EnabledCloudwatchLogsExports"]
    assert not restored.get("EnabledCloudwatchLogsExports")
    command = f"groundwork restore --adopt {document['instance']} --stack prod"
    lines = rds_commands.restore_lines(document)
    assert lines[-1] == f"  {command}"
    assert document["resourceId"] == restored["DbiResourceId"]
    assert f"first add {restored['DbiResourceId']} to it" in " ".join(lines)


def test_the_same_restore_again_continues_with_its_instance(instance: Instance, said: list[str]) -> None:
    _, moment = instance.window()
    first = instance.restore(moment - timedelta(milliseconds=1), said.append)
    again = instance.restore(moment - timedelta(milliseconds=1), said.append)
    assert first["DBInstanceIdentifier"] == again["DBInstanceIdentifier"]
    assert len(_names(instance)) == 2
    assert "may have changed since; to restore again, delete it first" in said[-1]


def test_the_window_is_not_that_of_a_deleted_instance_with_the_same_name(
    monkeypatch: pytest.MonkeyPatch, instance: Instance
) -> None:
    own = instance.describe()["DbiResourceId"]
    oldest = datetime(2026, 3, 3, tzinfo=UTC)
    rows = [
        {
            "DbiResourceId": resource,
            "Status": status,
            "RestoreWindow": {"EarliestTime": oldest - timedelta(days=days)},
        }
        for resource, status, days in (
            ("db-DELETED", "retained", 2),
            (own, "retained", 1),
            (own, "active", 0),
        )
    ]
    monkeypatch.setattr(
        instance.client,
        "describe_db_instance_automated_backups",
        lambda **_: {"DBInstanceAutomatedBackups": rows},
    )
    assert instance.window()[0] == oldest


@pytest.mark.parametrize("days", [-400, 1], ids=["too old", "to come"])
def test_a_point_in_time_outside_the_window_creates_no_instance(
    instance: Instance, said: list[str], days: int
) -> None:
    with pytest.raises(OutsideWindow, match="; the window is"):
        instance.restore(datetime.now(UTC) + timedelta(days=days), said.append)
    assert _names(instance) == {""}


def test_an_instance_without_retention_is_reported_to_have_no_backups(instance: Instance) -> None:
    instance.client.modify_db_instance(
        DBInstanceIdentifier=instance.name, BackupRetentionPeriod=0, ApplyImmediately=True
    )
    with pytest.raises(BackupError, match=f"RDS keeps no backups of {instance.name}"):
        instance.window()


def test_a_new_instance_is_reported_to_have_no_backup_yet(
    monkeypatch: pytest.MonkeyPatch, instance: Instance
) -> None:
    described = instance.describe()
    del described["LatestRestorableTime"]
    monkeypatch.setattr(Instance, "describe", lambda *_: described)
    with pytest.raises(BackupError, match=f"RDS has not finished the first backup of {instance.name}"):
        instance.window()


def test_a_drill_passes_and_deletes_its_instance(
    instance: Instance, said: list[str], checked: list[str]
) -> None:
    found = _drill(instance, said)
    assert found.ok, found.document()
    assert found.rto_seconds is not None
    assert found.rpo_seconds is not None
    assert found.rows == {"users": 2}
    name = f"{instance.name}-drill"
    assert checked == [f"migrations with migrator@{name}", f"app@{name}"]
    assert _names(instance) == {""}


@pytest.mark.parametrize(
    ("broken", "is_smoke_run"), [("apply_later_migrations", False), ("smoke", True)], ids=str
)
def test_a_drill_whose_restored_instance_cannot_be_read_fails(
    monkeypatch: pytest.MonkeyPatch, instance: Instance, said: list[str], broken: str, is_smoke_run: bool
) -> None:
    def unreadable(*_: object) -> str:
        raise CheckFailed("no rows")

    monkeypatch.setattr(checks, broken, unreadable)
    found = _drill(instance, said)
    assert [check.detail for check in found.failures] == ["no rows"]
    assert (found.checks["smoke"].ok is False) == is_smoke_run
    assert found.ended_at is not None
    assert _names(instance) == {""}


def test_a_drill_whose_window_ends_too_early_fails(instance: Instance, said: list[str]) -> None:
    found = _drill(instance, said, max_rpo=-1)
    assert [check.name for check in found.failures] == ["archive"]


def test_a_drill_deletes_only_instances_of_drills(instance: Instance, said: list[str]) -> None:
    instance.client.create_db_instance(
        DBInstanceIdentifier=f"{instance.name}-drill", DBInstanceClass="db.t4g.small", Engine="postgres",
        MasterUsername="somebody", MasterUserPassword="not-a-secret-here", AllocatedStorage=20,
    )  # fmt: skip
    found = _drill(instance, said)
    assert [check.name for check in found.failures] == ["recovery"]
    assert "does not belong to a drill" in found.failures[0].detail
    assert found.ended_at is not None
    assert _names(instance) == {"", "-drill"}


def test_a_drill_whose_instance_cannot_be_deleted_fails_and_keeps_its_evidence(
    monkeypatch: pytest.MonkeyPatch, instance: Instance, said: list[str]
) -> None:
    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not allowed"}}, "DeleteDBInstance")

    with monkeypatch.context() as patch:
        patch.setattr(instance.client, "delete_db_instance", refuse)
        found = _drill(instance, said)
    assert [check.name for check in found.failures] == ["cleanup"]
    assert found.failures[0].detail == "RDS: not allowed"
    assert found.checks["smoke"].ok
    assert found.ended_at is not None


def test_a_drill_to_a_point_in_time_outside_the_window_creates_no_instance(
    instance: Instance, said: list[str]
) -> None:
    with pytest.raises(OutsideWindow, match="; the window is") as refused:
        _drill(instance, said, datetime.now(UTC) - timedelta(days=400))
    assert refused.value.exit_code == Exit.USAGE
    assert _names(instance) == {""}


def test_a_restore_does_not_wait_for_an_instance_that_failed_or_is_being_deleted(
    instance: Instance, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = instance.restore(None, said.append)["DBInstanceIdentifier"]
    described = Instance.described
    for status, is_resumed in (
        ("creating", True),
        ("failed", False),
        ("storage-full", False),
        ("deleting", False),
    ):

        def rows(self: Instance, status: str = status, **filters: Any) -> list[dict[str, Any]]:
            found = described(self, **filters)
            return [
                r | {"DBInstanceStatus": status} if r["DBInstanceIdentifier"] == first else r for r in found
            ]

        with in_case(status), monkeypatch.context() as patch:
            patch.setattr(Instance, "described", rows)
            begun = instance._begun("LATEST")
            assert (begun and begun["DBInstanceIdentifier"]) == (first if is_resumed else None)


def test_an_instance_that_was_restored_before_can_be_restored(instance: Instance, said: list[str]) -> None:
    """A tag cannot be given twice, and AWS's own tags cannot be given at all."""
    arn = instance.describe()["DBInstanceArn"]
    tags = [
        {"Key": TAG, "Value": "2026-01-01T00:00:00Z"},
        {"Key": "aws:backup", "Value": "x"},
        {"Key": "team", "Value": "a"},
    ]
    instance.client.add_tags_to_resource(ResourceName=arn, Tags=tags)
    given: list[dict[str, str]] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        given.extend(params["Tags"])

    events = instance.client.meta.events
    event = "provide-client-params.rds.RestoreDBInstanceToPointInTime"
    events.register(event, note)
    try:
        instance.restore(None, said.append)
    finally:
        events.unregister(event, note)
    assert given == [{"Key": "team", "Value": "a"}, {"Key": TAG, "Value": "LATEST"}]


class Killed(BaseException):
    """Like SIGKILL: no more requests are sent to RDS, not even in a `finally` block."""


def _killed_after(instance: Instance, calls: int, act: Callable[[], object]) -> bool:
    """Run a function that is killed after a number of RDS calls. Return whether it was killed."""
    left = calls

    def asked(**_: Any) -> None:
        if left == 0:
            raise Killed

    def answered(**_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    events = instance.client.meta.events
    events.register("before-call.rds", asked)
    events.register("after-call.rds", answered)
    try:
        act()
    except Killed:
        return True
    finally:
        events.unregister("before-call.rds", asked)
        events.unregister("after-call.rds", answered)
    return False


@promise("on AWS the next backup, restore or drill completes a killed one or cleans up after it")
def test_a_restore_killed_after_any_call_is_completed_by_the_same_command(
    instance: Instance, said: list[str]
) -> None:
    moment = instance.window()[1] - timedelta(milliseconds=1)
    for calls in count(1, scaled(2, 1)):
        was_killed = _killed_after(instance, calls, lambda: instance.restore(moment, said.append))
        restored = instance.restore(moment, said.append)
        assert restored["DBInstanceStatus"] == "available"
        assert len(_names(instance)) == 2
        if not was_killed:
            break
        name = restored["DBInstanceIdentifier"]
        instance.client.modify_db_instance(DBInstanceIdentifier=name, DeletionProtection=False)
        instance.client.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    assert calls > 4


@promise("on AWS the next backup, restore or drill completes a killed one or cleans up after it")
def test_the_next_drill_removes_what_a_drill_killed_after_any_call_left(
    instance: Instance, said: list[str]
) -> None:
    left = []
    for calls in count(1, scaled(3, 1)):
        was_killed = _killed_after(instance, calls, lambda: _drill(instance, said))
        left.append(_names(instance) - {""})
        found = _drill(instance, said)
        assert found.ok, found.document()
        assert _names(instance) == {""}
        if not was_killed:
            break
    # Negative control: some of them did leave an instance.
    assert {"-drill"} in left
    assert left[-1] == set()


@promise("on AWS the next backup, restore or drill completes a killed one or cleans up after it")
def test_a_backup_killed_after_any_call_is_completed_by_the_next_one(
    instance: Instance, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name of a snapshot contains the second.
    seconds, began = count(), datetime.now(UTC)
    clock = SimpleNamespace(now=lambda _: began + timedelta(seconds=next(seconds)))
    monkeypatch.setattr(rds, "datetime", clock)
    for calls in count(1):
        was_killed = _killed_after(instance, calls, lambda: instance.take(said.append))
        assert instance.take(said.append).status == "available"
        if not was_killed:
            break
    assert calls > 2


@pytest.mark.parametrize("status", ["creating", "deleting"])
def test_a_drill_waits_until_rds_has_finished_an_operation(
    instance: Instance, said: list[str], monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """RDS refuses to delete an instance that is being created or deleted."""
    name = f"{instance.name}-drill"
    instance.restore_as(name, None, "drill")
    told = [status, status, "available" if status == "creating" else "gone"]
    describe = Instance.describe

    def describe_in_time(self: Instance, which: str | None = None) -> dict[str, Any]:
        found = describe(self, which)
        if which != name or not told:
            return found
        now = told.pop(0) if len(told) > 1 else told[0]
        if now == "gone":
            told.clear()
            self.client.modify_db_instance(DBInstanceIdentifier=name, DeletionProtection=False)
            self.client.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
            return describe(self, which)
        if now == "available":
            told.clear()
        return found | {"DBInstanceStatus": now}

    monkeypatch.setattr(Instance, "describe", describe_in_time)
    found = _drill(instance, said)
    assert found.ok, found.document()
    assert said.count(f"deleting {name}") == (2 if status == "creating" else 1)


def test_a_missing_instance_is_reported_in_one_line(instance: Instance) -> None:
    with pytest.raises(OpsError, match="RDS: ") as refused:
        Instance("prod", "gw-other", instance.client).window()
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert "\n" not in str(refused.value)


@pytest.fixture
def on_aws(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """Return the instance, which the outputs of stack `prod` name."""
    values = {outputs.TARGET: "aws", outputs.BACKUPS: {"region": REGION, "instance": instance.name}}
    monkeypatch.setattr(PulumiStack, "exists", property(lambda self: True))
    monkeypatch.setattr(PulumiStack, "public_outputs", lambda self: values)
    return instance


def test_restore_without_a_terminal_says_that_the_instance_is_not_changed(on_aws: Instance) -> None:
    refused = CliRunner().invoke(restore, ["--stack", "prod", "--to", "LATEST"])
    assert isinstance(refused.exception, OpsError)
    assert refused.exception.exit_code == Exit.REFUSED
    assert f"{on_aws.name} is not changed" in str(refused.exception)


def test_the_command_takes_a_snapshot_for_a_stack_on_aws(on_aws: Instance) -> None:
    done = CliRunner().invoke(backup, ["--stack", "prod", "--json"])
    assert done.exit_code == 0, done.output
    assert on_aws.snapshots()[-1].label in done.stdout
    refused = CliRunner().invoke(backup, ["--stack", "prod", "--full"])
    assert isinstance(refused.exception, OpsError)
    assert refused.exception.exit_code == Exit.USAGE


def test_a_drill_of_the_command_trusts_the_authorities_of_rds(
    on_aws: Instance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GROUNDWORK_CACHE", str(tmp_path))
    bundle = tmp_path / "rds-ca" / f"{REGION}.pem"
    bundle.parent.mkdir()
    bundle.write_text(make_authority("rds of a test").certificate)
    trusted = []

    def read(url: str) -> tuple[str, dict[str, int]]:
        trusted.append(conninfo_to_dict(url)["sslrootcert"])
        return "1 user read", {"users": 1}

    monkeypatch.setattr(checks, "smoke", read)
    done = CliRunner().invoke(drill_command, ["--stack", "prod"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert trusted == [str(bundle)]


def test_a_drill_without_the_authorities_of_rds_creates_no_instance(
    on_aws: Instance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GROUNDWORK_CACHE", str(tmp_path))
    monkeypatch.setattr(trust, "URL", "http://127.0.0.1:1/{region}.pem")
    refused = CliRunner().invoke(drill_command, ["--stack", "prod"])
    assert "groundwork:awsRdsCaFile" in str(refused.exception)
    monkeypatch.setattr(
        PulumiStack,
        "check_settings",
        lambda self: SimpleNamespace(aws_rds_ca_file="no-such-file.pem", migrations_folder="db/migrations"),
    )
    refused = CliRunner().invoke(drill_command, ["--stack", "prod"])
    assert "no-such-file.pem" in str(refused.exception)
    assert _names(on_aws) == {""}


def test_the_access_image_does_not_need_boto3() -> None:
    lock = Path(__file__).parents[3] / "infra" / "images" / "access" / "requirements.lock"
    assert "boto3" not in lock.read_text()
