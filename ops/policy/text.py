"""An assessment, and the catalogue of rules, as lines for people."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from infra.policy.finding import Finding, Status
from infra.policy.loss import Loss
from infra.policy.rule import Rule
from ops.policy.assessment import Assessment
from ops.printable import printable

_WAIVER_DAYS = 30


def lines_of(assessment: Assessment) -> Iterator[str]:
    """Each finding with its resource and what to do; the last line sums up."""
    yield from findings_of(assessment)
    counts = assessment.counts
    counted = ", ".join(f"{count} {status.value}" for status, count in counts.items())
    rules = f"{assessment.applicable} of {len(assessment.catalogue)} rules apply"
    yield f"stack {assessment.stack}: {rules}, {assessment.resources} resources: {counted}"


def findings_of(assessment: Assessment) -> Iterator[str]:
    for finding in assessment.findings:
        yield from _finding(finding)


def notes_of(assessment: Assessment) -> Iterator[str]:
    """What is to be said of waivers."""
    for note in assessment.notes:
        yield printable(f"waiver of {', '.join(note.waiver.rules)} for {note.waiver.urn}: {note.problem}")


def waiver_entry(assessment: Assessment, today: datetime.date) -> str:
    """The entry that would let the first finding pass, to be filled in; empty where nothing is refused."""
    found = next((f for f in assessment.findings if f.status is not Status.WAIVED), None)
    if found is None:
        return ""
    return (
        "waivers:\n"
        f"  - urn: {found.urn}\n"
        f"    rules: [{found.rule}]\n"
        "    reason: ...\n"
        f"    expires: {today + datetime.timedelta(days=_WAIVER_DAYS)}"
    )


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
