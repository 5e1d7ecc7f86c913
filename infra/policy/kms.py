"""Rules for KMS keys."""

from __future__ import annotations

from collections.abc import Iterator

from infra.policy.example import made
from infra.policy.expectation import must_be, unknown
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule
from infra.policy.value import UNKNOWN

KEY = "aws:kms/key:Key"
_SYMMETRIC = (None, "", "SYMMETRIC_DEFAULT")


@rule(
    "KMS.4",
    "Keys are rotated every year",
    Severity.MEDIUM,
    on=KEY,
    fix="set enableKeyRotation to true",
    good=[made(KEY, "data", enableKeyRotation=True)],
    bad=[[made(KEY, "data", enableKeyRotation=False)], [made(KEY, "data")]],
    alone=True,
)
def rotation(key: Resource, resources: Resources) -> Iterator[Problem]:
    spec = key.get("customerMasterKeySpec")
    if spec is UNKNOWN:
        yield unknown("customerMasterKeySpec")
    elif spec in _SYMMETRIC:
        # KMS rotates only symmetric keys.
        yield from must_be(key, "enableKeyRotation", True, default=False)
