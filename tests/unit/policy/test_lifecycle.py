"""S3's lifecycle rules: which changes keep objects for a shorter time."""

from __future__ import annotations

import json
from typing import Any

from infra.policy.data_loss_guard import losses
from infra.policy.lifecycle import expires_sooner
from infra.policy.plan import Plan
from infra.policy.value import UNKNOWN
from tests.cases import in_case
from tests.policy_stack import Declared, Ref, Stack, preview

BUCKET = Declared("aws:s3/bucket:Bucket", "backups", {"forceDestroy": False})
TYPE = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
Rule = dict[str, Any]


def rule(days: int | None = 30, *, status: str = "Enabled", **more: Any) -> Rule:
    return {"id": "old", "status": status, "expiration": {"days": days}, **more}


def versions(days: int, newer: int | None = None) -> Rule:
    block = {"noncurrentDays": days, "newerNoncurrentVersions": newer}
    return {"id": "versions", "status": "Enabled", "noncurrentVersionExpiration": block}


LOGS: dict[str, Any] = {"filter": {"prefix": "logs/"}}


def test_an_earlier_expiry_is_a_loss() -> None:
    cases: list[tuple[Any, Any]] = [
        ([], [rule(365)]),
        (None, [rule(365)]),
        ([rule(365)], [rule(30)]),
        ([rule(365)], [rule(365), rule(30, id="new")]),
        ([rule(status="Disabled")], [rule()]),
        ([rule(**LOGS)], [rule()]),
        ([rule(60)], [rule(30, **LOGS)]),
        ([versions(30)], [versions(7)]),
        ([versions(30, 5)], [versions(30, 2)]),
        ([versions(30, 5)], [versions(30)]),
        ([], [{"status": "Enabled", "expiration": {"date": "2030-01-01"}}]),
        ([{"enabled": True, "expiration": {"days": 9}}], [{"enabled": True, "expiration": {"days": 8}}]),
        (
            [{"enabled": True, "expirations": [{"days": 9}]}],
            [{"enabled": True, "expirations": [{"days": 8}]}],
        ),
    ]
    for before, after in cases:
        with in_case(before, after):
            assert expires_sooner(before, after) is True


def test_an_equal_or_later_expiry_is_not_a_loss() -> None:
    cases: list[tuple[Any, Any]] = [
        ([rule()], [rule()]),
        ([rule()], []),
        ([rule()], [rule(status="Disabled")]),
        ([rule()], [rule(id="renamed")]),
        ([rule()], [rule(filter={"prefix": ""})]),
        ([rule()], [rule(), rule(40, **LOGS)]),
        ([rule(prefix="logs/")], [rule(**LOGS)]),
        ([], [rule(None)]),
        ([], [{"status": "Enabled", "transitions": [{"days": 30, "storageClass": "GLACIER"}]}]),
    ]
    for before, after in cases:
        with in_case(before, after):
            assert expires_sooner(before, after) is False


def test_rules_in_an_unknown_format_may_be_a_loss() -> None:
    assert expires_sooner([], [rule("soon")]) is UNKNOWN  # type: ignore[arg-type]
    assert expires_sooner([], ["a rule"]) is UNKNOWN


def found(old: Stack, new: Stack) -> set[tuple[str, str, str]]:
    plan = Plan.parse(json.dumps(preview(old, new)))
    return {(f.resource, f.rule, f.status.value) for f in losses(plan.steps)}


def configuration(*rules: Rule, bucket: Any = Ref("backups")) -> Declared:  # noqa: B008
    return Declared(TYPE, "expiry", {"bucket": bucket, "rules": [*rules]})


REFUSED = {("expiry", "DataLoss.retention", "violated")}


def test_a_shorter_retention_of_a_bucket_is_refused() -> None:
    assert found([BUCKET, configuration(rule(60))], [BUCKET, configuration(rule(30))]) == REFUSED


def test_removed_rules_are_not_a_loss() -> None:
    assert found([BUCKET, configuration(rule())], [BUCKET]) == set()


def test_new_rules_for_an_existing_bucket_are_refused() -> None:
    assert found([BUCKET], [BUCKET, configuration(rule())]) == REFUSED
    assert found([BUCKET], [BUCKET, configuration(rule(), bucket="another")]) == REFUSED


def test_new_rules_for_a_new_bucket_are_not_a_loss() -> None:
    assert found([VERY_FIRST], [VERY_FIRST, BUCKET, configuration(rule())]) == set()


VERY_FIRST = Declared("aws:sns/topic:Topic", "alarms")
