"""Decide requests by IAM policies, as AWS documents it: an explicit deny wins, then an allow; the default is a denial.

It knows the elements, operators and condition keys that docs/iam uses. Anything else raises Unsupported, so that a
typing mistake in a policy cannot pass for a condition that is never met.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[5] / "docs" / "iam"
ACCOUNT, REGION, STACK = "123456789012", "eu-central-1", "unit"
# What a reader of the documentation replaces.
VALUES = {
    "ACCOUNT": ACCOUNT,
    "REGION": REGION,
    "ENVIRONMENT": STACK,
    "STATE_BUCKET": "state-bucket",
    "STATE_KEY": "1111-state",
    "BACKUP_REGION": "eu-west-1",
    "BACKUP_KEY": "2222-copies",
    "VPC_ID": "vpc-0123456789abcdef0",
    "SUBNET_ID": "subnet-0000000?",
    "ROUTE_TABLE_ID": "rtb-00000001",
    "OWNER_ID": "1001",
    "REPOSITORY_ID": "2002",
    "OWNER": "acme",
    "REPOSITORY": "shop",
    "DBI_RESOURCE_ID": "db-POSTGRES",
}
# The resource ids of the stack's primary and its read replica, each in its own line of the boundary.
INSTANCES = ("db-POSTGRES", "db-POSTGRES-REPLICA-1")
_GITHUB = "token.actions.githubusercontent.com"
_KEYS = {
    "aws:ViaAWSService",
    "ec2:CreateAction",
    "ecs:cluster",
    "iam:AWSServiceName",
    "iam:PassedToService",
    "iam:PermissionsBoundary",
    "iam:PolicyARN",
    "kms:GrantIsForAWSResource",
    "kms:ResourceAliases",
    "kms:ViaService",
    "route53:VPCs",
    # AWS knows the first two since 2014, and the others since January 2026.
    f"{_GITHUB}:aud",
    f"{_GITHUB}:sub",
    f"{_GITHUB}:actor",
    f"{_GITHUB}:environment",
    f"{_GITHUB}:job_workflow_ref",
    f"{_GITHUB}:ref",
    f"{_GITHUB}:repository",
    f"{_GITHUB}:repository_id",
}
_TAGS = re.compile(r"aws:(RequestTag|ResourceTag)/[\w:.-]+")
_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "Principal", "Condition"}

Statement = Mapping[str, Any]


class Unsupported(Exception):
    """A policy or a request uses something that this evaluator does not know."""


@dataclass(frozen=True)
class Request:
    """One action on one resource, with the condition keys that AWS would send."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in self.context:
            _require_key(key)


def load(*names: str, instances: Sequence[str] = INSTANCES) -> list[Statement]:
    """Return the statements of files in docs/iam, with the placeholders replaced."""
    return [statement for name in names for statement in _load(name, tuple(instances))]


def text(name: str, instances: Sequence[str] = INSTANCES) -> str:
    """Return a file in docs/iam with the placeholders replaced, and the line of the instances repeated for each."""
    pattern = re.compile(r"\b(" + "|".join(sorted(VALUES, key=len, reverse=True)) + r")\b")
    content = with_instances((FOLDER / name).read_text(), instances)
    return pattern.sub(lambda match: VALUES[match[1]], content)


def with_instances(content: str, instances: Sequence[str]) -> str:
    """Repeat the line that has the id of an instance, and replace the id in each."""
    return re.sub(
        r"^.*\bDBI_RESOURCE_ID\b.*$",
        lambda line: ",\n".join(line[0].replace("DBI_RESOURCE_ID", each) for each in instances),
        content,
        flags=re.MULTILINE,
    )


@lru_cache
def _load(name: str, instances: tuple[str, ...]) -> tuple[Statement, ...]:
    return tuple(json.loads(text(name, instances))["Statement"])


def allowed(
    request: Request, policies: Sequence[Statement], boundary: Sequence[Statement] | None = None
) -> bool:
    """Return whether the policies, and the permissions boundary if there is one, both allow the request."""
    decisions = [_decide(request, policies)] + ([] if boundary is None else [_decide(request, boundary)])
    return all(decisions)


def _decide(request: Request, statements: Iterable[Statement]) -> bool:
    effects = {statement["Effect"] for statement in statements if _applies(statement, request)}
    if effects - {"Allow", "Deny"}:
        raise Unsupported(f"effects {effects}")
    return effects == {"Allow"}


def _applies(statement: Statement, request: Request) -> bool:
    if unknown := set(statement) - _ELEMENTS:
        raise Unsupported(f"elements {unknown}")
    if "NotAction" in statement:
        acts = not _any_matches(statement["NotAction"], request.action, ignore_case=True)
    else:
        acts = _any_matches(statement["Action"], request.action, ignore_case=True)
    # A trust policy names no resource: it is the role's own.
    on = "Principal" in statement or _any_matches(statement["Resource"], request.resource)
    # Evaluate all, so that an unknown operator or key is found even if another condition fails.
    met = [
        _condition(operator, key, _list(values), request.context.get(key))
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    ]
    return acts and on and all(met)


def _condition(operator: str, key: str, values: list[str], actual: str | None) -> bool:
    _require_key(key)
    if any("${" in value for value in values):
        raise Unsupported(f"policy variable in {values}")
    match operator:
        case "Null":
            return (actual is None) == (values == ["true"])
        case "StringEquals":
            return actual is not None and actual in values
        case "StringNotEquals":
            return actual is None or actual not in values
        case "StringLike" | "ArnLike":
            return actual is not None and _any_matches(values, actual)
        case "Bool":
            return actual is not None and actual.lower() in values
        case _:
            raise Unsupported(f"operator {operator}")


def _require_key(key: str) -> None:
    if key not in _KEYS and not _TAGS.fullmatch(key):
        raise Unsupported(f"condition key {key}")


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _any_matches(patterns: Any, actual: str, ignore_case: bool = False) -> bool:
    return any(_matches(pattern, actual, ignore_case) for pattern in _list(patterns))


def _matches(pattern: str, actual: str, ignore_case: bool) -> bool:
    return _expression(pattern, ignore_case).fullmatch(actual) is not None


@cache
def _expression(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    if "${" in pattern:
        raise Unsupported(f"policy variable in {pattern}")
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.compile(expression, re.IGNORECASE if ignore_case else 0)
