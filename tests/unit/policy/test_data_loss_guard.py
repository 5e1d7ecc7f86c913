"""The data-loss guard: which steps of a preview it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from infra.policy.data_loss_guard import losses
from infra.policy.loss import LOSSES
from infra.policy.plan import Plan
from infra.policy.resource_types import UNRULED
from infra.policy.stateful import STATEFUL
from infra.policy.value import UNKNOWN
from tests.cases import in_case
from tests.policy_stack import CANARY, Declared, Secret, Stack, changed, good_stack, preview
from tests.promises import promise

TOKEN_KEY = Declared("pulumi-python:dynamic:Resource", "token-key-k1")
CIPHER = Declared("pulumi-python:dynamic:Resource", "backup-cipher")
PASSWORD = Declared("pulumi-python:dynamic:Resource", "postgres-app_a")
VOLUME = Declared("docker:index/volume:Volume", "postgres-data", {"name": "gw-1-dev-postgres-data"})
CONTAINER = Declared("docker:index/container:Container", "postgres", {"image": "1"})
BUCKET = Declared("aws:s3/bucket:Bucket", "backups", {"forceDestroy": False})
VERSIONING = Declared(
    "aws:s3/bucketVersioning:BucketVersioning", "versions", {"versioningConfiguration": {"status": "Enabled"}}
)
LOG = Declared("aws:cloudwatch/logGroup:LogGroup", "access", {"retentionInDays": 365})
OLD = [*good_stack(), TOKEN_KEY, CIPHER, PASSWORD, VOLUME, CONTAINER, BUCKET, VERSIONING, LOG]


def lost(new: Stack, *, old: Stack = OLD, **replaced: list[str]) -> set[tuple[str, str, str]]:
    """Return (resource, loss, status) of a step from the old stack to the new one."""
    names = {name.replace("_", "-"): reasons for name, reasons in replaced.items()}
    return found(preview(old, new, replaced=names))


def found(content: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    plan = Plan.parse(json.dumps(content))
    return {(f.resource, f.rule.removeprefix("DataLoss."), f.status.value) for f in losses(plan.steps)}


def refused(name: str, *kinds: str) -> set[tuple[str, str, str]]:
    return {(name, kind, "violated") for kind in kinds}


@promise("a change that loses data is refused before it starts")
def test_deleting_a_resource_with_data_is_refused() -> None:
    cases: list[tuple[str, str]] = [
        ("postgres", "delete"),
        ("replica", "delete"),
        ("redis", "delete"),
        ("data-key", "key-deletion"),
        ("token-keys", "delete"),
        ("token-keys-version", "delete"),
        ("postgres-data", "delete"),
        ("backups", "delete"),
        ("access", "delete"),
        ("versions", "protection"),
        ("isolated-c", "subnet"),
        ("token-key-k1", "key-deletion"),
        ("backup-cipher", "key-deletion"),
    ]
    for name, kind in cases:
        with in_case(name, kind):
            declared = [each for each in OLD if each.name == name and each.type != CONTAINER.type]
            assert lost([], old=declared) == refused(name, kind)


def test_replacing_a_resource_with_data_is_refused() -> None:
    cases: list[tuple[Declared, str]] = [
        (next(each for each in OLD if each.name == "postgres"), "replace"),
        (next(each for each in OLD if each.name == "data-key"), "key-deletion"),
        (next(each for each in OLD if each.name == "isolated-b"), "subnet"),
        (VOLUME, "replace"),
        (CIPHER, "key-deletion"),
    ]
    for declared, kind in cases:
        with in_case(declared, kind):
            content = preview([declared], [declared], replaced={declared.name: ["engine"]})
            assert found(content) == refused(declared.name, kind)
            # With --show-replacement-steps the engine shows three steps, which are one loss.
            step = content["steps"].pop()
            for op in ("create-replacement", "replace", "delete-replaced"):
                content["steps"].append(step | {"op": op})
            assert found(content) == refused(declared.name, kind)


@pytest.mark.parametrize("op", ["delete-replaced", "remove-pending-replace"])
def test_a_pending_deletion_of_an_interrupted_up_is_refused(op: str) -> None:
    content = preview([VOLUME], [])
    content["steps"][-1]["op"] = op
    assert found(content) == refused("postgres-data", "delete")


def test_a_removed_guard_is_refused() -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("postgres", {"engineVersion": "14.13"}, "downgrade"),
        ("postgres", {"engineVersion": "15.7"}, "downgrade"),
        ("redis", {"engineVersion": "6.2"}, "downgrade"),
        ("postgres", {"allocatedStorage": 50}, "storage"),
        ("postgres", {"backupRetentionPeriod": 7}, "retention"),
        ("postgres", {"backupRetentionPeriod": None}, "retention"),
        ("redis", {"snapshotRetentionLimit": 0}, "retention"),
        ("data-key", {"deletionWindowInDays": 7}, "retention"),
        ("access", {"retentionInDays": 180}, "retention"),
        ("backups", {"lifecycleRules": [{"enabled": True, "expiration": {"days": 30}}]}, "retention"),
        ("postgres", {"instanceClass": "db.t4g.medium"}, "memory"),
        ("redis", {"nodeType": "cache.t4g.small"}, "memory"),
        ("token-keys", {"recoveryWindowInDays": 0}, "retention"),
        ("postgres", {"deletionProtection": False}, "protection"),
        ("postgres", {"deletionProtection": None}, "protection"),
        ("postgres", {"protect": False}, "protection"),
        ("redis", {"protect": False}, "protection"),
        ("data-key", {"isEnabled": False}, "protection"),
        ("backups", {"forceDestroy": True}, "protection"),
        ("versions", {"versioningConfiguration": {"status": "Suspended"}}, "protection"),
        ("postgres", {"skipFinalSnapshot": True}, "final-snapshot"),
        ("redis", {"finalSnapshotIdentifier": None}, "final-snapshot"),
    ]
    for name, properties, kind in cases:
        with in_case(name, properties, kind):
            values = dict(properties)
            old = [each for each in OLD if each is not CONTAINER]
            new = changed(old, name, protect=values.pop("protect", None), **values)
            assert lost(new, old=old) == refused(name, kind)


EXPIRY = [{"enabled": True, "status": "Enabled", "expiration": {"days": 30}}]
# Property -> a change of it that is a loss.
CHANGES: dict[str, tuple[Any, Any]] = {
    "engineVersion": ("7.1", "6.2"),
    "instanceClass": ("db.m7g.large", "db.t4g.medium"),
    "nodeType": ("cache.m7g.large", "cache.t4g.small"),
    "allocatedStorage": (100, 50),
    "numNodeGroups": (2, 1),
    "backupRetentionPeriod": (14, 7),
    "snapshotRetentionLimit": (7, 1),
    "deletionWindowInDays": (30, 7),
    "recoveryWindowInDays": (30, 7),
    "retentionInDays": (365, 30),
    "retentionPeriod": (14, 7),
    "deletionProtection": (True, False),
    "deleteAutomatedBackups": (False, True),
    "skipFinalSnapshot": (False, True),
    "finalSnapshotIdentifier": ("last", None),
    "isEnabled": (True, False),
    "forceDestroy": (False, True),
    "lifecycleRules": ([], EXPIRY),
    "rules": ([], EXPIRY),
    "versioningConfiguration.status": ("Enabled", "Suspended"),
}


def test_every_guard_of_every_kind_is_tested() -> None:
    cases: list[tuple[str, str, str]] = [
        (type_, guard.property, guard.loss.id.removeprefix("DataLoss."))
        for type_, kind in STATEFUL.items()
        for guard in kind.guards
    ]
    for type_, property_, kind in cases:
        with in_case(type_, property_, kind):
            outer, _, inner = property_.partition(".")
            old, new = (
                Declared(type_, "data", {} if value is None else {outer: {inner: value} if inner else value})
                for value in CHANGES[property_]
            )
            assert lost([new], old=[old]) == refused("data", kind)
            assert lost([old], old=[new]) == set()


def test_copies_of_backups_may_be_replaced_and_not_ended() -> None:
    """RDS keeps the copies that exist, but a new copying begins only with a replacement."""
    copies = Declared(
        "aws:rds/instanceAutomatedBackupsReplication:InstanceAutomatedBackupsReplication", "copies"
    )
    assert lost([], old=[copies]) == refused("copies", "protection")
    assert found(preview([copies], [copies], replaced={"copies": ["retentionPeriod"]})) == set()


@promise("a change that loses data is refused before it starts", control=True)
def test_a_change_without_loss_passes() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("postgres", {"engineVersion": "15"}),
        ("postgres", {"engineVersion": "15.10"}),
        ("postgres", {"engineVersion": "16.4"}),
        ("postgres", {"engineVersion": None}),
        ("postgres", {"allocatedStorage": 200}),
        ("postgres", {"allocatedStorage": None}),
        ("postgres", {"backupRetentionPeriod": 35}),
        ("postgres", {"instanceClass": "db.m7g.xlarge"}),
        ("postgres", {"instanceClass": "db.m6g.large"}),
        ("redis", {"nodeType": "cache.r7g.large"}),
        ("access", {"retentionInDays": 731}),
        # No value means forever.
        ("access", {"retentionInDays": 0}),
        ("access", {"retentionInDays": None}),
        ("backups", {"lifecycleRules": [{"enabled": False, "expiration": {"days": 30}}]}),
        ("postgres", {"tags": {"owner": "data"}}),
        ("token-keys", {"recoveryWindowInDays": None}),
        ("backups", {"forceDestroy": None}),
    ]
    for name, properties in cases:
        with in_case(name, properties):
            old = [each for each in OLD if each is not CONTAINER]
            assert lost(changed(old, name, **properties), old=old) == set()


def test_a_new_or_unchanged_stack_passes() -> None:
    assert lost(OLD, old=[]) == set()
    assert lost(OLD) == set()


@pytest.mark.parametrize("declared", [CONTAINER, PASSWORD], ids=lambda each: each.name)
def test_a_resource_without_data_may_be_deleted_and_replaced(declared: Declared) -> None:
    assert lost([], old=[declared]) == set()
    assert found(preview([declared], [declared], replaced={declared.name: ["image"]})) == set()


def test_a_secrets_value_may_be_replaced() -> None:
    assert lost(OLD, token_keys_version=["secretString"]) == set()


def test_a_guard_whose_new_value_is_unknown_is_refused() -> None:
    guards: list[tuple[str, str, str]] = [
        (declared.name, guard.property, guard.loss.id.removeprefix("DataLoss."))
        for declared in good_stack()
        if declared.type in STATEFUL and declared.name != "replica"
        for guard in STATEFUL[declared.type].guards
    ]
    new_values: list[tuple[str, Any]] = [
        ("unknown", UNKNOWN),
        ("secret", Secret(CANARY)),
    ]
    for name, property_, kind in guards:
        for title, value in new_values:
            with in_case(name, property_, kind, title):
                new = changed(good_stack(), name, **{property_: value})
                assert lost(new, old=good_stack()) == {(name, kind, "undetermined")}


def test_a_retained_resource_may_be_deleted_but_not_replaced() -> None:
    content = preview([VOLUME], [])
    content["steps"][-1]["oldState"]["retainOnDelete"] = True
    assert found(content) == set()
    content = preview([VOLUME], [VOLUME], replaced={"postgres-data": ["name"]})
    content["steps"][-1]["oldState"]["retainOnDelete"] = True
    assert found(content) == refused("postgres-data", "replace", "protection")


def test_a_refresh_is_ignored_and_hides_no_other_step() -> None:
    content = preview([VOLUME, CIPHER], [VOLUME])
    refreshes = [step | {"op": "refresh", "newState": step["oldState"]} for step in content["steps"][1:]]
    content["steps"][1:1] = refreshes
    assert found(content) == refused("backup-cipher", "key-deletion")
    content["steps"] = content["steps"][:1] + [refreshes[1] | {"newState": None}]
    assert found(content) == set()


def test_a_renamed_resource_counts_as_deleted() -> None:
    renamed = Declared(VOLUME.type, "data", VOLUME.properties)
    assert lost([renamed], old=[VOLUME]) == refused("postgres-data", "delete")


@pytest.mark.parametrize(
    ("name", "property_", "size"),
    [("postgres", "instanceClass", "db.x9.small"), ("redis", "nodeType", "cache.x9.small")],
)
def test_an_unlisted_size_may_be_smaller(name: str, property_: str, size: str) -> None:
    new = changed(good_stack(), name, **{property_: size})
    assert lost(new, old=good_stack()) == {(name, "memory", "undetermined")}
    assert lost(new, old=new) == set()


def test_data_stores_without_rules_are_guarded_too() -> None:
    for type_ in UNRULED:
        with in_case(type_):
            data = Declared(type_, "data")
            if type_ == "aws:rds/clusterInstance:ClusterInstance":
                # It uses the cluster's storage, and has no data of its own.
                assert lost([], old=[data]) == set()
            else:
                assert lost([], old=[data]) == refused("data", "delete")


def test_every_kind_of_loss_can_be_found() -> None:
    kinds = {stateful.deleted for stateful in STATEFUL.values() if stateful.deleted}
    kinds |= {stateful.replaced for stateful in STATEFUL.values() if stateful.replaced}
    kinds |= {guard.loss for stateful in STATEFUL.values() for guard in stateful.guards}
    assert kinds == set(LOSSES)


def test_no_finding_shows_a_value() -> None:
    new = changed(good_stack(), "postgres", engineVersion=CANARY, allocatedStorage=CANARY)
    plan = Plan.parse(json.dumps(preview(good_stack(), new)))
    assert {f.status.value for f in losses(plan.steps)} == {"undetermined"}
    assert CANARY not in repr(losses(plan.steps))
