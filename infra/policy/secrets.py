"""Rules on secrets of Secrets Manager. The master user's is RDS's own, and no resource of the stack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy.example import made
from infra.policy.expectation import outside, unknown
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule
from infra.policy.value import UNKNOWN, as_number, is_number

SECRET = "aws:secretsmanager/secret:Secret"
ROTATION = "aws:secretsmanager/secretRotation:SecretRotation"
MOST_DAYS = 90
_RATE = re.compile(r"rate\((?P<count>\d+) (?P<unit>hour|day)s?\)")


def _rotation(**rules: object) -> list[Resource]:
    return [made(SECRET, "secret"), made(ROTATION, "rotation", secretId="secret-id", rotationRules=rules)]


@rule(
    "SecretsManager.1",
    "A secret is rotated by itself",
    Severity.MEDIUM,
    on=SECRET,
    fix="make a SecretRotation for the secret",
    good=_rotation(automaticallyAfterDays=30),
    bad=[[made(SECRET, "secret")]],
)
def rotated(secret: Resource, resources: Resources) -> Iterator[Problem]:
    rotations = resources.naming(secret, "secretId", ROTATION)
    if not rotations.is_complete:
        yield outside("secretRotation", "whether a rotation is this secret's")
    elif not rotations.found:
        yield Problem("secretRotation", "nothing rotates it")


@rule(
    "SecretsManager.4",
    f"A secret that is rotated is so every {MOST_DAYS} days at least",
    Severity.MEDIUM,
    on=SECRET,
    fix=f"set automaticallyAfterDays of its SecretRotation to {MOST_DAYS} or less",
    good=_rotation(automaticallyAfterDays=90),
    bad=[_rotation(automaticallyAfterDays=91), _rotation(scheduleExpression="rate(100 days)"), _rotation()],
)
def rotated_often(secret: Resource, resources: Resources) -> Iterator[Problem]:
    rotations = resources.naming(secret, "secretId", ROTATION)
    if not rotations.is_complete:
        yield outside("secretRotation", "whether a rotation is this secret's")
    for rotation in rotations.found:
        days = _days(rotation.get("rotationRules"))
        if days is UNKNOWN:
            yield unknown("secretRotation")
        elif not is_number(days) or days > MOST_DAYS:
            yield Problem("secretRotation", f"has to come round in {MOST_DAYS} days or less")


def _days(rules: Any) -> Any:
    """Days between two rotations; None where none are said, UNKNOWN where that is not to be read."""
    if not isinstance(rules, Mapping):
        return UNKNOWN if rules is UNKNOWN else None
    if rules.get("automaticallyAfterDays") is not None:
        return as_number(rules["automaticallyAfterDays"])
    expression = rules.get("scheduleExpression")
    if isinstance(expression, str) and (rate := _RATE.fullmatch(expression.strip())):
        return int(rate["count"]) / (24 if rate["unit"] == "hour" else 1)
    # A cron expression may say anything.
    return None if expression is None else UNKNOWN
