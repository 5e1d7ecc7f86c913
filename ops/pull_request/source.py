"""Read the files that a comment is created from: previews, findings, and the plan of the migrations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from infra.text_file import read_text
from ops.errors import Exit, OpsError
from ops.migrations.plan import PendingPlan
from ops.policy.assessment import Assessment
from ops.policy.document import parse_assessment
from ops.pull_request.comment import PullRequestReport
from ops.pull_request.preview import StackPreview, parse_preview


def read_report(
    previews: Sequence[str], findings: Sequence[Path], plan: Path | None, *, requires_checks: bool
) -> PullRequestReport:
    """Read the files; `previews` are STACK=FILE. Raise OpsError (2) for an invalid file or a duplicate stack."""
    found = [_preview(each) for each in previews]
    assessed = [_assessment(path) for path in findings]
    _refuse_twice(f"preview of stack {each.stack!r}" for each in found)
    _refuse_twice(f"{each.kind} of stack {each.stack!r}" for each in assessed)
    return PullRequestReport(
        tuple(sorted(found, key=lambda each: each.stack)),
        tuple(sorted(assessed, key=lambda each: (each.kind, each.stack))),
        None if plan is None else _plan(plan),
        requires_checks,
    )


def _preview(given: str) -> StackPreview:
    stack, separator, file = given.partition("=")
    if not (stack and separator and file):
        raise OpsError(f"invalid --preview {given}; use STACK=FILE, e.g. prod=prod.json", Exit.USAGE)
    return parse_preview(stack, read_text(Path(file)), file)


def _assessment(path: Path) -> Assessment:
    return parse_assessment(read_text(path), str(path))


def _plan(path: Path) -> PendingPlan:
    try:
        return PendingPlan.from_json(json.loads(read_text(path)))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise OpsError(
            f"{path} is not a plan; create it with `groundwork migrate plan --json`", Exit.USAGE
        ) from error


def _refuse_twice(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise OpsError(f"the {name} is given twice; pass it once", Exit.USAGE)
        seen.add(name)
