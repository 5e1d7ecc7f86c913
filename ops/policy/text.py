"""Render an assessment and the catalogue of rules as text."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from infra.policy.finding import Finding, Status
from infra.policy.loss import Loss
from infra.policy.rule import Rule
from ops.policy.assessment import Assessment, WaiverNote
from ops.printable import printable

_WAIVER_DAYS = 30


def lines_of(assessment: Assessment) -> Iterator[str]:
    """Yield each finding with its resource and its fix, and a summary as the last line."""
    yield from findings_of(assessment)
    counts = assessment.counts
    counted = ", ".join(f"{count} {status.value}" for status, count in counts.items())
    rules = f"{assessment.applicable} of {len(assessment.catalogue)} rules apply"
    yield f"stack {assessment.stack}: {rules}, {assessment.resources} resources: {counted}"


def findings_of(assessment: Assessment) -> Iterator[str]:
    for finding in assessment.findings:
        yield from _finding(finding)


def notes_of(assessment: Assessment) -> Iterator[str]:
    """Yield a line for each waiver that needs attention."""
    for note in assessment.notes:
        yield printable(f"waiver of {waiver_note(note)}")


def waiver_note(note: WaiverNote) -> str:
    return f"{', '.join(note.waiver.rules)} for {note.waiver.urn}: {note.problem}"


def waiver_entries(assessment: Assessment, today: datetime.date) -> list[str]:
    """Return the lines of waiver entries for the findings, to be completed by the user; empty if nothing is refused."""
    rules: dict[str, list[str]] = {}
    for found in assessment.findings:
        if found.status is not Status.WAIVED and found.rule not in rules.setdefault(found.urn, []):
            rules[found.urn].append(found.rule)
    lines = ["waivers:"] if rules else []
    for urn, names in rules.items():
        lines += [
            f"  - urn: {urn}",
            f"    rules: [{', '.join(names)}]",
            "    reason: ...",
            f"    expires: {today + datetime.timedelta(days=_WAIVER_DAYS)}",
        ]
    return lines


def catalogue_of(catalogue: Sequence[Rule | Loss]) -> Iterator[str]:
    width = max(len(each.id) for each in catalogue)
    for each in catalogue:
        yield f"{each.id:{width}}  {each.severity.value:8}  {each.title}"


def _finding(finding: Finding) -> Iterator[str]:
    head = f"{finding.rule}: {finding.resource}: {finding.property}: {finding.message}"
    yield printable(f"{head} ({finding.severity.value}, {finding.status.value})")
    yield f"    {printable(finding.urn)}"
    if finding.waiver is None:
        yield f"    fix: {finding.fix}"
    else:
        yield f"    waived until {finding.waiver.expires}: {printable(finding.waiver.reason)}"
