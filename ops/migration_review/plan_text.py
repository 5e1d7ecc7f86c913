"""A plan as text for a terminal, and as Markdown; what a migration's author named or wrote is code there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ops.markdown import code, table
from ops.migration_review.locks import Lock, Measured
from ops.migration_review.plan import MigrationPlan, Plan

_EFFECTS = {
    "ACCESS EXCLUSIVE": "blocks reads and writes",
    "EXCLUSIVE": "blocks writes",
    "SHARE ROW EXCLUSIVE": "blocks writes",
    "SHARE": "blocks writes",
    "SHARE UPDATE EXCLUSIVE": "blocks schema changes and VACUUM",
}
# Also a dollar-quoted one, and one that is cut off with the line it is on.
_LITERAL = re.compile(r"'(?:[^']|'')*(?:'|$)|\$(\w*)\$.*?(?:\$\1\$|$)", re.DOTALL)
_NO_SQUAWK = "squawk is not installed: linted by our own rules alone"


def as_text(plan: Plan) -> Iterator[str]:
    """The lines of a plan."""
    yield from heading(plan)
    for each in plan.migrations:
        yield ""
        yield _title(each)
        for statement in each.statements:
            yield f"  line {statement.line:<4} {statement.text}"
            yield from (f"            {fact}" for fact in _facts(statement, plan))
        if not plan.has_squawk:
            yield f"  {_NO_SQUAWK}"
        for finding in each.findings:
            yield f"  {finding.file}:{finding.line}: {finding.rule}: {finding.message}"


def as_markdown(plan: Plan) -> Iterator[str]:
    """The lines of a page of its own."""
    yield f"### Migrations: {' '.join(heading(plan))}"
    for each in plan.migrations:
        head, rows, findings = migration_lines(each, plan)
        yield from ("", *head, *rows)
        if findings:
            yield from ("", *findings)


def migration_lines(
    each: MigrationPlan, plan: Plan
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """A migration's title with the head of a table, the table's rows, and the list of what lint says.

    Literals are left out of its statements: one may be a password.
    """
    rows = (
        (
            str(statement.line),
            code(_LITERAL.sub("'…'", statement.text)),
            "<br>".join(_facts(statement, plan, code)),
        )
        for statement in each.statements
    )
    head, line, *body = table(("line", "statement", "measured"), rows)
    findings = (
        f"- {code(f'{finding.file}:{finding.line}')}, {code(finding.rule)}: {code(finding.message, 400)}"
        for finding in each.findings
    )
    without = () if plan.has_squawk else (f"- {_NO_SQUAWK}",)
    return (f"#### {_title(each, code)}", "", head, line), tuple(body), (*without, *findings)


def heading(plan: Plan) -> Iterator[str]:
    """What is planned, in one sentence or two."""
    where = "an empty database" if plan.version is None else f"version {plan.version}"
    if not plan.migrations:
        yield f"nothing is pending at {where}"
        return
    yield f"{len(plan.migrations)} pending, from {where}; locks measured on a throwaway server"
    if not plan.has_target:
        yield "(no database was asked, so there are no estimates of rows)"


def _title(plan: MigrationPlan, named: Callable[[str], str] = str) -> str:
    how = "in one transaction" if plan.in_transaction else "outside a transaction"
    late = ", older than what is applied" if plan.is_late else ""
    return f"{named(plan.name)} ({how}{late}; strongest lock: {plan.strongest_lock or 'none'})"


def _facts(statement: Measured, plan: Plan, named: Callable[[str], str] = str) -> Iterator[str]:
    for lock in statement.locks:
        yield _lock(lock, plan, named)
    for name in statement.rewrites:
        yield f"writes {named(name)} anew{_rows(name, plan)}"
    for name in statement.scans:
        yield f"reads {named(name)} through{_rows(name, plan)}"
    if not (statement.locks or statement.rewrites or statement.scans):
        yield "no lock on a table that was there before"


def _lock(lock: Lock, plan: Plan, named: Callable[[str], str]) -> str:
    effect = f", {_EFFECTS[lock.mode]}" if lock.mode in _EFFECTS else ""
    partitions = " and its partitions" if lock.has_partitions else ""
    return f"{lock.mode} on {named(lock.name)}{partitions}{_rows(lock.name, plan)}{effect}"


def _rows(name: str, plan: Plan) -> str:
    if not plan.has_target:
        return ""
    if name not in plan.rows:
        return " (not there on the target yet)"
    count = plan.rows[name]
    return " (never analyzed)" if count is None else f" (about {count} rows)"
