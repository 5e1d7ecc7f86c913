"""awsPostgresSnapshot: what the program declares with it, and which snapshots are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.aws.session import AwsError
from infra.aws.snapshot import Snapshot
from infra.settings import StackSettings
from infra.spec import rds
from infra.spec.errors import SettingError
from tests.promises import promise
from tests.unit.infra.aws.program import SETTINGS, SNAPSHOT_KEY, TYPES, one, run_aws_program
from tests.unit.infra.program import Program

GOOD = {
    "Status": "available",
    "Engine": "postgres",
    "EngineVersion": "15.8",
    "MasterUsername": rds.ADMIN,
    "Encrypted": True,
    "KmsKeyId": SNAPSHOT_KEY,
    "AllocatedStorage": 50,
}


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return run_aws_program(tmp_path_factory.mktemp("state"), awsPostgresSnapshot="groundwork-prod-final")


def _refusing(code: str) -> Any:
    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": code}}, "Describe")

    return refuse


def _find(monkeypatch: pytest.MonkeyPatch, row: dict[str, Any] | None, **methods: Any) -> Snapshot | None:
    """Find the snapshot in an account that has no instance, and this snapshot or none."""
    api = {
        "describe_db_instances": _refusing("DBInstanceNotFound"),
        "describe_db_snapshots": (
            _refusing("DBSnapshotNotFound") if row is None else lambda **_: {"DBSnapshots": [row]}
        ),
    }
    monkeypatch.setattr("infra.aws.snapshot.client", lambda *_: SimpleNamespace(**api | methods))
    settings = StackSettings.parse(SETTINGS | {"awsPostgresSnapshot": "groundwork-prod-final"})
    return Snapshot.for_new_instance("groundwork-unit", settings)


@promise("an instance is created from a snapshot, and a later change of the setting does not replace it")
def test_new_instance_has_the_snapshot_and_its_key(restored: Program) -> None:
    instance = one(restored, "instance", "postgres")
    assert instance["snapshotIdentifier"] == "groundwork-prod-final"
    assert instance["kmsKeyId"] == SNAPSHOT_KEY
    assert instance["manageMasterUserPassword"] is True


@promise("an instance is created from a snapshot, and a later change of the setting does not replace it")
def test_changes_of_snapshot_and_key_are_ignored(restored: Program, program: Program) -> None:
    for each in (restored, program):
        instances = each.of_type(TYPES["instance"])
        assert instances["postgres"].ignore_changes == {"snapshotIdentifier", "kmsKeyId"}
    assert not program.of_type(TYPES["instance"])["postgres-replica-1"].ignore_changes
    assert "snapshotIdentifier" not in one(program, "instance", "postgres")


def test_good_snapshot_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _find(monkeypatch, GOOD) == Snapshot("groundwork-prod-final", SNAPSHOT_KEY)


def test_snapshot_of_an_existing_instance_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been deleted meanwhile."""
    assert _find(monkeypatch, None, describe_db_instances=lambda **_: {"DBInstances": [{}]}) is None


def test_account_is_not_asked_without_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("infra.aws.snapshot.client")
    assert Snapshot.for_new_instance("groundwork-unit", StackSettings.parse(SETTINGS)) is None


@promise("a snapshot that cannot become the stack's instance is refused before anything is created")
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (None, "there is no snapshot groundwork-prod-final of this account"),
        (GOOD | {"Status": "creating"}, "is creating; wait"),
        (GOOD | {"EngineVersion": "16.1"}, "is of postgres 16.1; name a snapshot of Postgres 15"),
        (GOOD | {"Engine": "mysql"}, "is of mysql 15.8"),
        (GOOD | {"MasterUsername": "postgres"}, "the administrator of .* is postgres"),
        (GOOD | {"Encrypted": False}, "is not encrypted; copy it with"),
        (GOOD | {"AllocatedStorage": 51}, "needs 51GB, .*; set groundwork:awsPostgresStorage to 51GB"),
    ],
    ids=["missing", "creating", "major version", "engine", "administrator", "not encrypted", "storage"],
)
def test_snapshot_that_cannot_become_the_instance_is_refused(
    monkeypatch: pytest.MonkeyPatch, row: dict[str, Any] | None, reason: str
) -> None:
    with pytest.raises(SettingError, match=f"groundwork:awsPostgresSnapshot.*{reason}"):
        _find(monkeypatch, row)


@pytest.mark.parametrize("method", ["describe_db_instances", "describe_db_snapshots"])
def test_other_refusals_of_aws_are_reported(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    with pytest.raises(AwsError, match="AccessDenied"):
        _find(monkeypatch, GOOD, **{method: _refusing("AccessDenied")})
