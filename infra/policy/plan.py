"""What `pulumi preview --json` says: a stack's resources as they would be, and the steps that lead there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.policy.resource import Resource, Resources
from infra.policy.value import read_value
from infra.spec.errors import InfraError

# Where the engine says that a resource was declared: a file below the project's folder.
_POSITION = re.compile(r"project:///(?P<file>(?!\.\./)[^#]+)#(?P<line>\d+)(?:,\d+)?")
_LEFT = frozenset({"delete", "delete-replaced", "discard", "discard-replaced", "remove-pending-replace"})


class PlanError(InfraError):
    """It is not what `pulumi preview --json` writes."""


@dataclass(frozen=True)
class State:
    """A resource as it is or would be, with the options that guard it."""

    resource: Resource
    retained_on_delete: bool


@dataclass(frozen=True)
class Step:
    """What the engine would do to one resource: `op` is its word for it."""

    op: str
    urn: str
    old: State | None
    new: State | None
    replaced_for: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A preview. `left_out` counts unchanged resources that it does not show, `failed_on` are the URNs (or "") of
    its errors: after one the preview ends, and what it shows is not everything."""

    stack: str
    steps: tuple[Step, ...]
    left_out: int
    failed_on: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Plan:
        """PlanError for anything but a preview of one stack."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise PlanError(f"is not JSON ({error}); make it by `groundwork preview --json`") from error
        if not isinstance(content, dict) or "changeSummary" not in content:
            raise PlanError("is not a preview; make it by `groundwork preview --json`")
        try:
            steps = tuple(_step(step) for step in content.get("steps") or [])
            unchanged = int(content["changeSummary"].get("same", 0))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PlanError(
                f"has a step that is none ({error!r}); make it by `groundwork preview --json`"
            ) from error
        stacks = {step.urn.split(":", 3)[2] for step in steps}
        if len(stacks) != 1:
            raise PlanError("shows no resource of one stack; make it by `groundwork preview --json`")
        errors = [d for d in content.get("diagnostics") or [] if d.get("severity") == "error"]
        return cls(
            stack=stacks.pop(),
            steps=steps,
            # Unasked, the engine shows of the unchanged ones the stack itself and those that get other options.
            left_out=max(0, unchanged - sum(step.op == "same" for step in steps)),
            failed_on=tuple(dict.fromkeys(str(error.get("urn") or "") for error in errors)),
        )

    @property
    def resources(self) -> Resources:
        """What there would be after an `up`."""
        return Resources(step.new.resource for step in self.steps if step.new and step.op not in _LEFT)


def _step(content: Mapping[str, Any]) -> Step:
    urn = content["urn"]
    if not isinstance(urn, str) or not urn.startswith("urn:pulumi:"):
        raise ValueError("a step has no URN")
    return Step(
        op=content["op"],
        urn=urn,
        old=_state(content.get("oldState")),
        new=_state(content.get("newState")),
        replaced_for=tuple(content.get("replaceReasons") or content.get("diffReasons") or ()),
    )


def _state(content: Mapping[str, Any] | None) -> State | None:
    if content is None:
        return None
    made_at = _POSITION.fullmatch(content.get("sourcePosition") or "")
    is_external = bool(content.get("external"))
    properties = content.get("outputs" if is_external else "inputs") or {}
    identity = read_value(content.get("id"))
    resource = Resource(
        urn=content["urn"],
        type=content["type"],
        properties={key: read_value(value) for key, value in properties.items()},
        id=identity if isinstance(identity, str) else "",
        is_external=is_external,
        is_protected=bool(content.get("protect")),
        dependencies=content.get("propertyDependencies") or {},
        position=f"{made_at['file']}:{made_at['line']}" if made_at else "",
    )
    return State(resource, bool(content.get("retainOnDelete")))
