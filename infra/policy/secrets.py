"""Rules for secrets in Secrets Manager. The master user's secret belongs to RDS, and is not a resource of the stack."""

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
    "Secrets are rotated automatically",
    Severity.MEDIUM,
    on=SECRET,
    fix="create a SecretRotation for the secret",
    good=_rotation(automaticallyAfterDays=30),
    bad=[[made(SECRET, "secret")]],
)
def rotated(secret: Resource, resources: Resources) -> Iterator[Problem]:
    rotations = resources.naming(secret, "secretId", ROTATION)
    if not rotations.is_complete:
        yield outside("secretRotation", "whether a rotation is this secret's")
    elif not rotations.found:
        yield Problem("secretRotation", "no rotation is set up for the secret")


@rule(
    "SecretsManager.4",
    f"Rotated secrets are rotated at least every {MOST_DAYS} days",
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
            yield Problem("secretRotation", f"must run every {MOST_DAYS} days or more often")


def _days(rules: Any) -> Any:
    """Return the days between two rotations, None if they are not set, UNKNOWN if they cannot be determined."""
    if not isinstance(rules, Mapping):
        return UNKNOWN if rules is UNKNOWN else None
    if rules.get("automaticallyAfterDays") is not None:
        return as_number(rules["automaticallyAfterDays"])
    expression = rules.get("scheduleExpression")
    if isinstance(expression, str) and (rate := _RATE.fullmatch(expression.strip())):
        return int(rate["count"]) / (24 if rate["unit"] == "hour" else 1)
    # Cron expressions are not evaluated.
    return None if expression is None else UNKNOWN
