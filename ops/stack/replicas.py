"""Refuses commands about replicas for a stack that has none on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from infra.docker import ownership
from infra.spec.checkout import Checkout
from ops.errors import Exit, OpsError

_Found = TypeVar("_Found")


def require_replicas(
    checkout: Checkout, stack: str, service: str, find: Callable[[], dict[str, _Found]]
) -> dict[str, _Found]:
    """Return the servers that `find` finds on this machine, if the stack has replicas of the service.

    Raise OpsError: 7 on AWS, without replicas, or if the stack belongs to another state, 6 if the stack is not up.
    """
    from ops.stack.pulumi_stack import PulumiStack
    from ops.stack.stack_status import refuse_on_aws

    refuse_on_aws(checkout, stack)
    found = find()
    if not found:
        if getattr(PulumiStack(checkout, stack).check_settings(), f"{service.lower()}_replicas"):
            raise OpsError(
                f"stack {stack!r} has no servers of {service} with replicas on this machine; `groundwork up --stack"
                f" {stack}` creates them",
                Exit.UNREACHABLE,
            )
        raise OpsError(
            f"stack {stack!r} has no replicas of {service}; set groundwork:{service.lower()}Replicas to 2 and run"
            f" `groundwork up --stack {stack}` (docs/high-availability.md)",
            Exit.REFUSED,
        )
    ownership.require_own(checkout, stack)
    return found
