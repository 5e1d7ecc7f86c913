"""The comment on a pull request: data that would be lost, then rules, changes by stack, and migrations.

All foreign text is rendered as code, and values that may be secret are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.policy.finding import Finding, Status
from ops.errors import Exit
from ops.markdown import code, table
from ops.migrations.plan import PendingPlan
from ops.migrations.plan_text import heading, migration_lines
from ops.policy.assessment import DATA_LOSS, POLICY, Assessment
from ops.policy.text import waiver_note
from ops.pull_request.fitting import Section, fit
from ops.pull_request.preview import Change, PropertyChange, StackPreview

# Identifies the comment, so that it can be edited in place.
MARKER = "<!-- groundwork:report -->"
# GitHub's limit is 65,536.
LIMIT = 63_900
_SIGNS = {"replace": "-/+", "delete": "-", "update": "~", "create": "+", "import": "="}
_COUNTED = {
    "replace": "replaced", "delete": "deleted", "update": "changed", "create": "new", "import": "imported",
}  # fmt: skip
_PROPERTIES_SHOWN = 12
_CHECKS_NAMED = 10
_COMMANDS = {POLICY: "policy check", DATA_LOSS: "policy firewall"}
_OPEN = (Status.VIOLATED, Status.UNDETERMINED)


@dataclass(frozen=True)
class PullRequestReport:
    """The content of a comment. `plan` is None if migrations were not planned.

    With `requires_checks`, the comment is incomplete without the plan and both assessments of each successful preview.
    """

    previews: tuple[StackPreview, ...]
    assessments: tuple[Assessment, ...]
    plan: PendingPlan | None
    requires_checks: bool = False

    @property
    def stacks(self) -> list[str]:
        return sorted({p.stack for p in self.previews} | {a.stack for a in self.assessments})

    @property
    def exit_code(self) -> Exit:
        """The worst result: data would be lost, a rule is violated, or a preview failed or a check did not run."""
        if any(
            finding for each in self._of(DATA_LOSS) for finding in each.findings if finding.status in _OPEN
        ):
            return Exit.REFUSED
        if any(each.of(Status.VIOLATED) for each in self._of(POLICY)):
            return Exit.MISMATCH
        return Exit.ERROR if self.has_failed_preview or self.missing_checks else Exit.FINE

    @property
    def has_failed_preview(self) -> bool:
        return any(preview.has_failed for preview in self.previews)

    @property
    def missing_checks(self) -> list[str]:
        """The required checks that have no result, as Markdown. A failed preview cannot be checked."""
        if not self.requires_checks:
            return []
        missing = [
            f"`{_COMMANDS[kind]}` of {code(preview.stack)}"
            for preview in self.previews
            for kind in (POLICY, DATA_LOSS)
            if not preview.has_failed and self.assessment_of(kind, preview.stack) is None
        ]
        return missing if self.plan is not None else [*missing, "`migrate plan`"]

    def preview_of(self, stack: str) -> StackPreview | None:
        return next((each for each in self.previews if each.stack == stack), None)

    def assessment_of(self, kind: str, stack: str) -> Assessment | None:
        return next((each for each in self._of(kind) if each.stack == stack), None)

    def _of(self, kind: str) -> Iterator[Assessment]:
        return (each for each in self.assessments if each.kind == kind)


def as_comment(report: PullRequestReport, limit: int = LIMIT) -> str:
    """Return the comment's Markdown, at most `limit` characters long."""
    return fit([*_sections(report)], limit, "see the files that this comment was created from")


def _sections(report: PullRequestReport) -> Iterator[Section]:
    stacks = report.stacks
    head = (MARKER, "## Effects of this change", "", _verdict(report), "")
    yield Section(head)
    if stacks:
        heads = [*table(("stack", "infrastructure", "rules", "data"), ())]
        rows = tuple(_row(report, stack) for stack in stacks)
        yield Section(tuple(heads), rows, "see below")
    for kind, title in ((DATA_LOSS, "Data that would be lost"), (POLICY, "Violated rules")):
        for stack in stacks:
            if assessment := report.assessment_of(kind, stack):
                yield from _findings(assessment, title)
    for stack in stacks:
        if preview := report.preview_of(stack):
            yield from _changes(preview)
    if report.plan is None:
        yield Section(("### Migrations: not planned",))
    else:
        yield Section((f"### Migrations: {' '.join(heading(report.plan))}",))
        where = "see all with `groundwork migrate plan`"
        for each in report.plan.migrations:
            summary, statements, findings = migration_lines(each, report.plan)
            yield Section(summary, statements, where)
            if findings:
                yield Section((), findings, where)


def _verdict(report: PullRequestReport) -> str:
    said = []
    if report.exit_code == Exit.REFUSED:
        said.append("**Refused: data would be lost.**")
    elif report.exit_code == Exit.MISMATCH:
        said.append("**Policy rules are violated.**")
    elif report.has_failed_preview:
        said.append("**A preview failed, so this comment is incomplete.** See the job's log for the reason.")
    if missing := report.missing_checks:
        named = missing[:_CHECKS_NAMED]
        named += [f"{left} more"] if (left := len(missing) - len(named)) else []
        said.append(
            f"**A check did not run, so this comment is incomplete:** {', '.join(named)}."
            " See the job's log for the reason."
        )
    return " ".join(said) or "Nothing is refused."


def _row(report: PullRequestReport, stack: str) -> str:
    cells = (
        code(stack),
        _counted(report.preview_of(stack)),
        _judged(report.assessment_of(POLICY, stack), "all satisfied"),
        _judged(report.assessment_of(DATA_LOSS, stack), "no loss"),
    )
    return f"| {' | '.join(cells)} |"


def _counted(preview: StackPreview | None) -> str:
    if preview is None:
        return "not previewed"
    counts = [f"{count} {said}" for kind, said in _COUNTED.items() if (count := preview.count(kind))]
    failed = ["**preview failed**"] if preview.has_failed else []
    return ", ".join([*failed, *counts]) or f"no change, {preview.unchanged} unchanged"


def _judged(assessment: Assessment | None, fine: str) -> str:
    if assessment is None:
        return "not checked"
    if not assessment.applicable:
        return "none applies"
    said = ", ".join(f"{count} {status.value}" for status, count in assessment.counts.items() if count)
    return f"**{said}**" if any(map(assessment.of, _OPEN)) else said or fine


def _findings(assessment: Assessment, title: str) -> Iterator[Section]:
    items = [_finding(finding) for finding in assessment.findings]
    items += [f"- waiver: {code(waiver_note(note), 400)}" for note in assessment.notes]
    if items:
        where = f"see all with `groundwork {_COMMANDS[assessment.kind]} --stack {_plain(assessment.stack)}`"
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
        head += [f"The preview failed{f' at {at}' if at else ''}, so this list is incomplete.", ""]
    where = f"see all with `groundwork preview --diff --stack {_plain(preview.stack)}`"
    if preview.changes:
        summary = (
            f"<details><summary>{len(preview.changes)} resources, {preview.unchanged} unchanged</summary>"
        )
        items = tuple(map(_change, preview.changes))
        yield Section((*head, summary, ""), items, where, ("", "</details>"))
    elif preview.has_failed:
        yield Section(tuple(head))


def _change(change: Change) -> str:
    line = f"- `{_SIGNS.get(change.kind, '~')}` {change.kind} {code(change.name)} {code(change.type)}"
    shown = [_property(each) for each in change.properties[:_PROPERTIES_SHOWN]]
    if not shown and change.kind in ("update", "replace"):
        shown.append("  - the difference is secret, or the provider does not report it")
    if (left := len(change.properties) - _PROPERTIES_SHOWN) > 0:
        shown.append(f"  - … {left} more properties")
    return "\n".join([line, *shown])


def _property(change: PropertyChange) -> str:
    values = (
        f": {code(change.before, 80)} → {code(change.after, 80)}" if change.before or change.after else ""
    )
    return f"  - {code(change.path, 120)}{values}{' (not in place)' if change.replaces else ''}"


def _plain(stack: str) -> str:
    """Return a stack's name for use in a command, or STACK if it has unusual characters."""
    return stack if stack.replace("-", "").replace("_", "").isalnum() and stack.isascii() else "STACK"
