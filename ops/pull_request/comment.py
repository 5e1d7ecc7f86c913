"""The one comment on a pull request: data that would be lost first, then rules, changes by stack, migrations.

Everything that others wrote stands in it as code, and no value that may be a secret at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.policy.finding import Finding, Status
from ops.errors import Exit
from ops.markdown import code, table
from ops.migration_review.plan import Plan
from ops.migration_review.plan_text import heading, migration_lines
from ops.policy.assessment import FIREWALL, POLICY, Assessment
from ops.policy.text import waiver_note
from ops.pull_request.fitting import Section, fit
from ops.pull_request.preview import Change, PropertyChange, StackPreview

# By this the comment is found again, and edited in place.
MARKER = "<!-- groundwork:report -->"
# GitHub takes 65,536.
LIMIT = 63_900
_SIGNS = {"replace": "-/+", "delete": "-", "update": "~", "create": "+", "import": "="}
_COUNTED = {
    "replace": "replaced", "delete": "deleted", "update": "changed", "create": "new", "import": "imported",
}  # fmt: skip
_PROPERTIES_SHOWN = 12
_OPEN = (Status.VIOLATED, Status.UNDETERMINED)


@dataclass(frozen=True)
class Report:
    """What a change comes to. `plan` is None where nobody planned the migrations; stacks are in the order of names."""

    previews: tuple[StackPreview, ...]
    assessments: tuple[Assessment, ...]
    plan: Plan | None

    @property
    def stacks(self) -> list[str]:
        return sorted({p.stack for p in self.previews} | {a.stack for a in self.assessments})

    @property
    def exit_code(self) -> Exit:
        """The worst of it: data that would be lost, a rule that does not hold, a preview that failed."""
        if any(
            finding for each in self._of(FIREWALL) for finding in each.findings if finding.status in _OPEN
        ):
            return Exit.REFUSED
        if any(each.of(Status.VIOLATED) for each in self._of(POLICY)):
            return Exit.MISMATCH
        return Exit.ERROR if any(preview.has_failed for preview in self.previews) else Exit.FINE

    def preview_of(self, stack: str) -> StackPreview | None:
        return next((each for each in self.previews if each.stack == stack), None)

    def assessment_of(self, kind: str, stack: str) -> Assessment | None:
        return next((each for each in self._of(kind) if each.stack == stack), None)

    def _of(self, kind: str) -> Iterator[Assessment]:
        return (each for each in self.assessments if each.kind == kind)


def as_comment(report: Report, limit: int = LIMIT) -> str:
    """The comment's Markdown, at most `limit` characters."""
    return fit([*_sections(report)], limit, "the files that it was made from have all of it")


def _sections(report: Report) -> Iterator[Section]:
    stacks = report.stacks
    head = (MARKER, "## What this change would do", "", _verdict(report), "")
    yield Section(head)
    if stacks:
        heads = [*table(("stack", "infrastructure", "rules", "data"), ())]
        rows = tuple(_row(report, stack) for stack in stacks)
        yield Section(tuple(heads), rows, "they are below")
    for kind, title in ((FIREWALL, "Data that would be lost"), (POLICY, "Rules that do not hold")):
        for stack in stacks:
            if assessment := report.assessment_of(kind, stack):
                yield from _findings(assessment, title)
    for stack in stacks:
        if preview := report.preview_of(stack):
            yield from _changes(preview)
    if report.plan is None:
        yield Section(("### Migrations: not looked at",))
    else:
        yield Section((f"### Migrations: {' '.join(heading(report.plan))}",))
        where = "`groundwork migrate plan` shows all"
        for each in report.plan.migrations:
            summary, statements, findings = migration_lines(each, report.plan)
            yield Section(summary, statements, where)
            if findings:
                yield Section((), findings, where)


def _verdict(report: Report) -> str:
    match report.exit_code:
        case Exit.REFUSED:
            return "**Refused: data would be lost.**"
        case Exit.MISMATCH:
            return "**A rule does not hold.**"
        case Exit.ERROR:
            return "**A preview failed, so not everything is known.** The job's log says why."
        case _:
            return "Nothing in it is refused."


def _row(report: Report, stack: str) -> str:
    cells = (
        code(stack),
        _counted(report.preview_of(stack)),
        _judged(report.assessment_of(POLICY, stack), "all hold"),
        _judged(report.assessment_of(FIREWALL, stack), "nothing is lost"),
    )
    return f"| {' | '.join(cells)} |"


def _counted(preview: StackPreview | None) -> str:
    if preview is None:
        return "not previewed"
    counts = [f"{count} {said}" for kind, said in _COUNTED.items() if (count := preview.count(kind))]
    failed = ["**preview failed**"] if preview.has_failed else []
    return ", ".join([*failed, *counts]) or f"no change, {preview.unchanged} as they are"


def _judged(assessment: Assessment | None, fine: str) -> str:
    if assessment is None:
        return "not checked"
    if not assessment.applicable:
        return "none applies"
    said = ", ".join(f"{count} {status.value}" for status, count in assessment.counts.items() if count)
    return f"**{said}**" if any(map(assessment.of, _OPEN)) else said or fine


def _findings(assessment: Assessment, title: str) -> Iterator[Section]:
    command = "policy check" if assessment.kind == POLICY else "policy firewall"
    items = [_finding(finding) for finding in assessment.findings]
    items += [f"- waiver: {code(waiver_note(note), 400)}" for note in assessment.notes]
    if items:
        where = f"`{command} --stack {_plain(assessment.stack)}` shows all"
        yield Section((f"### {title}: {code(assessment.stack)}", ""), tuple(items), where)


def _finding(finding: Finding) -> str:
    at = f"{code(finding.rule)} {code(finding.severity)} {code(finding.status)}"
    said = f"{code(finding.resource)}, {code(finding.property)}: {code(finding.message, 400)}"
    waiver = finding.waiver
    rest = (
        code(finding.fix, 400)
        if waiver is None
        else f"waived {code(f'until {waiver.expires}: {waiver.reason}', 400)}"
    )
    return f"- {at}: {said}<br>{rest}"


def _changes(preview: StackPreview) -> Iterator[Section]:
    title = f"### Infrastructure: {code(preview.stack)}"
    head = [title, ""]
    if preview.has_failed:
        at = ", ".join(code(name) for name in preview.failed_on[:10] if name)
        head += [f"The preview failed{f' at {at}' if at else ''}: what stands here is not everything.", ""]
    where = f"`groundwork preview --diff --stack {_plain(preview.stack)}` shows all"
    if preview.changes:
        summary = (
            f"<details><summary>{len(preview.changes)} resources, {preview.unchanged} as they are</summary>"
        )
        items = tuple(map(_change, preview.changes))
        yield Section((*head, summary, ""), items, where, ("", "</details>"))
    elif preview.has_failed:
        yield Section(tuple(head))


def _change(change: Change) -> str:
    line = f"- `{_SIGNS.get(change.kind, '~')}` {change.kind} {code(change.name)} {code(change.type)}"
    shown = [_property(each) for each in change.properties[:_PROPERTIES_SHOWN]]
    if not shown and change.kind in ("update", "replace"):
        shown.append("  - what differs is secret, or the provider does not tell")
    if (left := len(change.properties) - _PROPERTIES_SHOWN) > 0:
        shown.append(f"  - … {left} more properties")
    return "\n".join([line, *shown])


def _property(change: PropertyChange) -> str:
    values = (
        f": {code(change.before, 80)} → {code(change.after, 80)}" if change.before or change.after else ""
    )
    return f"  - {code(change.path, 120)}{values}{' (not in place)' if change.replaces else ''}"


def _plain(stack: str) -> str:
    """A stack's name within a command; one of other characters is told as what stands for it."""
    return stack if stack.replace("-", "").replace("_", "").isalnum() and stack.isascii() else "STACK"
