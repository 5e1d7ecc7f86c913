"""Checks of the rotation of keys and of secrets.

The master user's secret belongs to RDS, and is not a resource of the stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy import resource_types as types
from infra.policy.requirement import be, must, outside, unknown
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Check, Problem
from infra.policy.value import UNKNOWN, as_number, is_number

_RATE = re.compile(r"rate\((?P<count>\d+) (?P<unit>hour|day)s?\)")


def key_rotates(key: Resource, resources: Resources) -> Iterator[Problem]:
    """Require that KMS rotates a symmetric key every year."""
    spec = key.get("customerMasterKeySpec")
    if spec is UNKNOWN:
        yield unknown("customerMasterKeySpec")
    elif spec in (None, "", "SYMMETRIC_DEFAULT"):
        # KMS rotates only symmetric keys.
        yield from must("enableKeyRotation", be(True), default=False)(key, resources)


def secret_rotates(secret: Resource, resources: Resources) -> Iterator[Problem]:
    """Require that a rotation is set up for a secret."""
    rotations = resources.naming(secret, "secretId", types.SECRET_ROTATION)
    if not rotations.is_complete:
        yield outside("secretRotation", "whether a rotation is this secret's")
    elif not rotations.found:
        yield Problem("secretRotation", "no rotation is set up for the secret")


def secret_rotates_every(most_days: int) -> Check:
    """Require that the secret's rotations, if it has any, run every `most_days` days or more often."""

    def check(secret: Resource, resources: Resources) -> Iterator[Problem]:
        rotations = resources.naming(secret, "secretId", types.SECRET_ROTATION)
        if not rotations.is_complete:
            yield outside("secretRotation", "whether a rotation is this secret's")
        for rotation in rotations.found:
            days = _days(rotation.get("rotationRules"))
            if days is UNKNOWN:
                yield unknown("secretRotation")
            elif not is_number(days) or days > most_days:
                yield Problem("secretRotation", f"must run every {most_days} days or more often")

    return check


def _days(rules: Any) -> Any:
    """Return the days between two rotations, None if no schedule is set, or UNKNOWN."""
    if not isinstance(rules, Mapping):
        return UNKNOWN if rules is UNKNOWN else None
    if rules.get("automaticallyAfterDays") is not None:
        return as_number(rules["automaticallyAfterDays"])
    expression = rules.get("scheduleExpression")
    if isinstance(expression, str) and (rate := _RATE.fullmatch(expression.strip())):
        return int(rate["count"]) / (24 if rate["unit"] == "hour" else 1)
    # Cron expressions are not evaluated.
    return None if expression is None else UNKNOWN
