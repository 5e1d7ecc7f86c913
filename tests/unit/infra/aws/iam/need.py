"""A request that the program needs, and the parts that the tables of needs share.

The tables are read from AWS's service authorization reference and the provider's code. No account has confirmed them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.unit.infra.aws.iam.evaluator import REGION, Request
from tests.unit.infra.aws.iam.identities import OURS, arn

Inputs = dict[str, Any]
# Type of a resource -> the needs of a resource with these inputs.
Table = dict[str, Callable[[Inputs], Iterator["Need"]]]
NAME = "groundwork-unit"
KEY = arn("kms", "key/0a1b")


@dataclass(frozen=True)
class Need:
    """A request, and whether only the first `up` or a `down` sends it."""

    request: Request
    set_up: bool = False


def need(action: str, resource: str, context: dict[str, str] | None = None, set_up: bool = False) -> Need:
    return Need(Request(action, resource, context or {}), set_up)


def read(*actions: str) -> Iterator[Need]:
    for action in actions:
        yield need(action, "*")


def each(service: str, actions: str, resource: str, context: dict[str, str] | None = None) -> Iterator[Need]:
    for action in actions.split():
        yield need(f"{service}:{action}", arn(service, resource), context)


def through(service: str, actions: str) -> Iterator[Need]:
    """Yield what a service does with a key of the stack on behalf of the deploying identity."""
    for action in actions.split():
        yield need(f"kms:{action}", KEY, OURS | {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"})


def grant() -> Need:
    return need("kms:CreateGrant", KEY, OURS | {"kms:GrantIsForAWSResource": "true"})


def passed(service: str, role: str = NAME + "-execution") -> Need:
    return need("iam:PassRole", arn("iam", f"role/{role}"), {"iam:PassedToService": service})


def service_role(service: str) -> Need:
    role = arn("iam", f"role/aws-service-role/{service}.amazonaws.com/AWSServiceRole")
    return need(
        "iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": f"{service}.amazonaws.com"}, set_up=True
    )
