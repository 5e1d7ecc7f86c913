"""Parse one stack's preview into changes that are safe to show: values that may be secret are dropped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infra.policy.preview import Preview, PreviewError, no_step
from ops.errors import Exit, OpsError
from ops.pull_request.redaction import SECRET, holds_secret, looks_secret, shown

# What happens to a resource, the worst first. If a resource has several steps, the worst one counts.
KINDS = ("replace", "delete", "update", "create", "import", "read", "refresh", "same")
_KIND_OF_STEP = {
    "create-replacement": "replace",
    "delete-replaced": "replace",
    "read-replacement": "replace",
    "discard-replaced": "replace",
    "remove-pending-replace": "replace",
    "import-replacement": "replace",
    "discard": "delete",
    "read-discard": "delete",
}
_UNREMARKABLE = frozenset({"same", "read", "refresh"})
# a.b[0]["c d"]
_SEGMENT = re.compile(r'\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]|\.?([^.\[]+)')


@dataclass(frozen=True)
class PropertyChange:
    """One property by its path, with values that are safe to show. `replaces`: it cannot be changed in place."""

    path: str
    before: str
    after: str
    replaces: bool


@dataclass(frozen=True)
class Change:
    """What happens to one resource. `kind` is one of KINDS."""

    kind: str
    type: str
    name: str
    properties: tuple[PropertyChange, ...] = ()


@dataclass(frozen=True)
class StackPreview:
    """`changes` has the worst first and leaves out unchanged resources. `failed_on` names those with errors (or "")."""

    stack: str
    changes: tuple[Change, ...]
    unchanged: int
    failed_on: tuple[str, ...]

    @property
    def has_failed(self) -> bool:
        return bool(self.failed_on)

    def count(self, kind: str) -> int:
        return sum(change.kind == kind for change in self.changes)


def parse_preview(stack: str, text: str, where: str) -> StackPreview:
    """Parse a preview. An empty text is a preview that failed early. Raise OpsError (2) for anything else."""
    if not text.strip():
        return StackPreview(stack, (), 0, ("",))
    try:
        return _parsed(stack, Preview.parse(text), where)
    except PreviewError as error:
        raise OpsError(f"{where} {error}", Exit.USAGE) from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise OpsError(f"{where} {no_step(error)}", Exit.USAGE) from error


def _parsed(stack: str, preview: Preview, where: str) -> StackPreview:
    if preview.stack not in ("", stack):
        raise OpsError(f"{where} is a preview of stack {preview.stack!r}, not of {stack!r}", Exit.USAGE)
    by_urn: dict[str, list[Mapping[str, Any]]] = {}
    for step in preview.steps:
        by_urn.setdefault(step["urn"], []).append(step)
    changes = sorted(map(_change, by_urn.values()), key=lambda c: (KINDS.index(c.kind), c.type, c.name))
    return StackPreview(
        stack,
        tuple(change for change in changes if change.kind not in _UNREMARKABLE),
        max(preview.unchanged, sum(change.kind == "same" for change in changes)),
        tuple(dict.fromkeys(map(_name, preview.failed_on))),
    )


def _change(steps: list[Mapping[str, Any]]) -> Change:
    kinds = [_KIND_OF_STEP.get(step["op"], step["op"]) for step in steps]
    # An unknown operation is shown as a change.
    kind = min((each if each in KINDS else "update" for each in kinds), key=KINDS.index)
    urn = steps[0]["urn"]
    properties: tuple[PropertyChange, ...] = ()
    if kind in ("update", "replace"):
        detailed = next((step for step in steps if step.get("detailedDiff")), None)
        properties = _compared(steps) if detailed is None else _properties(detailed, detailed["detailedDiff"])
        properties = properties or _reasons(steps)
    return Change(kind, urn.split("::")[2].rpartition("$")[2], _name(urn), properties)


def _properties(step: Mapping[str, Any], diffs: Mapping[str, Any]) -> tuple[PropertyChange, ...]:
    old, new = step.get("oldState") or {}, step.get("newState") or {}
    secret = {*(old.get("additionalSecretOutputs") or ()), *(new.get("additionalSecretOutputs") or ())}
    # All paths below a secret have the same label, which is shown once.
    return tuple(
        dict.fromkeys(_property(path, diff or {}, old, new, secret) for path, diff in sorted(diffs.items()))
    )


def _compared(steps: list[Mapping[str, Any]]) -> tuple[PropertyChange, ...]:
    """Compare the inputs of both sides, for providers that do not report differences."""
    step = next((s for s in steps if s.get("oldState") and s.get("newState")), None)
    if step is None:
        return ()
    old, new = (step[side].get("inputs") or {} for side in ("oldState", "newState"))
    replacing = {key for each in steps for key in each.get("replaceReasons") or ()}
    differing = {
        # Quoted, because a name may contain characters that are special in a path.
        f"[{json.dumps(key)}]": {"kind": "update-replace" if key in replacing else "update"}
        for key in {*old, *new}
        if not key.startswith("__") and old.get(key) != new.get(key)
    }
    return _properties(step, differing)


def _property(
    path: str, diff: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], secret: set[str]
) -> PropertyChange:
    kind = str(diff.get("kind", ""))
    side = "inputs" if diff.get("inputDiff", True) else "outputs"
    segments = list(_segments(path))
    before, after = _Walk(old.get("inputs"), segments), _Walk(new.get("inputs"), segments)
    if side == "outputs" or not (before.found or after.found):
        before = _Walk(old.get("outputs"), segments)
        if not after.found:
            after = _Walk(new.get("outputs"), segments)
    hidden_at = [
        n
        for n, each in enumerate(segments)
        if isinstance(each, str) and (looks_secret(each) or each in secret)
    ]
    # A list item that is added or removed has the index of a different item on the other side.
    is_added, is_removed = kind.startswith("add"), kind.startswith("delete")
    names = ({} if is_added else before.names) | ({} if is_removed else after.names)
    label = _label(segments[: hidden_at[0] + 1] if hidden_at else segments, names)
    is_secret = (
        bool(hidden_at)
        or before.holds_secret
        or after.holds_secret
        or any(looks_secret(name) for name in (*before.names.values(), *after.names.values()))
    )
    was = None if is_added else before.value
    becomes = None if is_removed else after.value
    return PropertyChange(
        label,
        SECRET if is_secret else shown(was),
        SECRET if is_secret else shown(becomes),
        kind.endswith("replace"),
    )


class _Walk:
    """Follows a path through a resource's properties, and records the names of list items on the way."""

    def __init__(self, properties: Any, segments: list[str | int]) -> None:
        self.value: Any = properties
        self.names: dict[int, str] = {}
        # A property that is secret as a whole makes everything below it secret.
        self.holds_secret = False
        self.found = properties is not None
        for depth, segment in enumerate(segments):
            # A secret's marker replaces everything below it.
            if isinstance(self.value, str) and holds_secret(self.value):
                break
            self.value = self._below(segment)
            self.found &= self.value is not None
            if isinstance(self.value, Mapping):
                name = next(
                    (self.value[k] for k in ("name", "key", "label") if isinstance(self.value.get(k), str)),
                    None,
                )
                if name is not None and isinstance(segment, int):
                    self.names[depth] = name
        self.holds_secret = holds_secret(self.value)

    def _below(self, segment: str | int) -> Any:
        if isinstance(segment, str) and isinstance(self.value, Mapping):
            return self.value.get(segment)
        if isinstance(segment, int) and isinstance(self.value, list) and segment < len(self.value):
            return self.value[segment]
        return None


def _reasons(steps: list[Mapping[str, Any]]) -> tuple[PropertyChange, ...]:
    """Return property names only, for steps without details."""
    replacing = {key for step in steps for key in step.get("replaceReasons") or ()}
    reasons = replacing | {key for step in steps for key in step.get("diffReasons") or ()}
    return tuple(PropertyChange(key, "", "", key in replacing) for key in sorted(reasons))


def _segments(path: str) -> Iterator[str | int]:
    for index, quoted, plain in _SEGMENT.findall(path):
        yield int(index) if index else json.loads(f'"{quoted}"') if quoted else plain


def _label(segments: list[str | int], names: Mapping[int, str]) -> str:
    label = ""
    for depth, segment in enumerate(segments):
        if isinstance(segment, int):
            name = names.get(depth)
            label += f"[{name if name and shown(name) == name else segment}]"
        else:
            label += f".{segment}" if label else segment
    return label


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]
