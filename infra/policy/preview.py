"""The output of `pulumi preview --json`: the engine's steps, and the number of resources that they omit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.spec.errors import InfraError

_MAKE_IT = "create it with `groundwork preview --json`"
# The engine omits empty parts, so a preview may have only some of these keys.
_KEYS = frozenset({"steps", "changeSummary", "diagnostics"})


class PreviewError(InfraError):
    """The text is not the output of `pulumi preview --json`."""


@dataclass(frozen=True)
class Preview:
    """A preview of one stack. `stack` is empty if there are no steps.

    - `steps`: each has at least a `urn` and the engine's operation `op`.
    - `unchanged`: the number of unchanged resources, including those without a step.
    - `failed_on`: the URNs of the resources with an error, "" for an error without a resource. After an error, a
      preview is incomplete.
    """

    stack: str
    steps: tuple[Mapping[str, Any], ...]
    unchanged: int
    failed_on: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Preview:
        """Parse the preview of one stack. Raises PreviewError for other text."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PreviewError(f"is not JSON ({error}); {_MAKE_IT}") from error
        if not isinstance(content, dict) or not content.keys() & _KEYS:
            raise PreviewError(f"is not a preview; {_MAKE_IT}")
        try:
            steps = tuple(map(_step, content.get("steps") or []))
            unchanged = int((content.get("changeSummary") or {}).get("same", 0))
            errors = [each for each in content.get("diagnostics") or [] if each.get("severity") == "error"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise no_step(error) from error
        stacks = {step["urn"].split(":", 3)[2] for step in steps}
        if len(stacks) > 1:
            raise PreviewError(f"shows resources of more than one stack; {_MAKE_IT}")
        return cls(
            stack="".join(stacks),
            steps=steps,
            unchanged=unchanged,
            failed_on=tuple(dict.fromkeys(str(error.get("urn") or "") for error in errors)),
        )


def no_step(error: Exception) -> PreviewError:
    """Return the error for a step with a missing field, or with a field of the wrong type."""
    return PreviewError(f"contains an invalid step ({error!r}); {_MAKE_IT}")


def _step(content: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(content["urn"], str) or not content["urn"].startswith("urn:pulumi:"):
        raise ValueError("a step has no URN")
    if not isinstance(content["op"], str):
        raise ValueError("a step has no op")
    return content
