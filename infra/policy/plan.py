"""The plan in a preview: the steps of an `up`, and the stack's resources after it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.policy.preview import Preview, PreviewError, no_step
from infra.policy.resource import Resource, Resources
from infra.policy.value import read_value

# The position in the program at which a resource was declared: a file below the project's folder.
_POSITION = re.compile(r"project:///(?P<file>(?!\.\./)[^#]+)#(?P<line>\d+)(?:,\d+)?")
_LEFT = frozenset({"delete", "delete-replaced", "discard", "discard-replaced", "remove-pending-replace"})


@dataclass(frozen=True)
class State:
    """A resource before or after a step, with the options that protect it."""

    resource: Resource
    retained_on_delete: bool


@dataclass(frozen=True)
class PlanStep:
    """What the engine would do to one resource. `op` is the engine's name of the operation."""

    op: str
    urn: str
    old: State | None
    new: State | None
    replaced_for: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The plan of one stack.

    `left_out` is the number of unchanged resources that the preview omits. `failed_on` is that of the Preview.
    """

    stack: str
    steps: tuple[PlanStep, ...]
    left_out: int
    failed_on: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Parse the preview of one stack. Raises PreviewError for other text, or for a preview without resources."""
        preview = Preview.parse(text)
        if not preview.stack:
            raise PreviewError("shows no resource of a stack; create it with `groundwork preview --json`")
        try:
            steps = tuple(map(_step, preview.steps))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise no_step(error) from error
        # By default the engine shows only a few unchanged resources: the stack itself, and those with changed options.
        left_out = max(0, preview.unchanged - sum(step.op == "same" for step in steps))
        return cls(preview.stack, steps, left_out, preview.failed_on)

    @property
    def resources(self) -> Resources:
        """Return the resources that would exist after an `up`."""
        return Resources(step.new.resource for step in self.steps if step.new and step.op not in _LEFT)


def _step(content: Mapping[str, Any]) -> PlanStep:
    return PlanStep(
        op=content["op"],
        urn=content["urn"],
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
