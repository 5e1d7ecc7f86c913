"""What `pulumi preview --json` writes: its steps as the engine tells them, and what they do not show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.spec.errors import InfraError

_MAKE_IT = "make it by `groundwork preview --json`"
# The engine leaves out what is empty, so a preview need not have all of them.
_KEYS = frozenset({"steps", "changeSummary", "diagnostics"})


class PreviewError(InfraError):
    """It is not what `pulumi preview --json` writes."""


@dataclass(frozen=True)
class Preview:
    """One stack's; `stack` is empty where there are no steps. Each step has a URN and the engine's word `op`.

    `unchanged` counts the resources that stay as they are, shown or not. `failed_on` are the URNs (or "") of its
    errors: after one the preview ends, and what it shows is not everything.
    """

    stack: str
    steps: tuple[Mapping[str, Any], ...]
    unchanged: int
    failed_on: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Preview:
        """PreviewError for anything but a preview of one stack."""
        try:
            content = json.loads(text)
        except ValueError as error:
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
    """For a step of which something is missing, or of another type."""
    return PreviewError(f"has a step that is none ({error!r}); {_MAKE_IT}")


def _step(content: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(content["urn"], str) or not content["urn"].startswith("urn:pulumi:"):
        raise ValueError("a step has no URN")
    if not isinstance(content["op"], str):
        raise ValueError("a step has no op")
    return content
