"""Resources for the rules' examples, as they are after an `up`, each with an id."""

from __future__ import annotations

from typing import Any

from infra.policy.resource import Resource


def made(type_: str, name: str, /, protect: bool = False, **properties: Any) -> Resource:
    """Return a resource of the stack `example` with the id `NAME-id`."""
    return Resource(
        urn=f"urn:pulumi:example::groundwork::{type_}::{name}",
        type=type_,
        properties=properties,
        id=f"{name}-id",
        is_protected=protect,
    )
