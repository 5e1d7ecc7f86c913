"""Render a plan as text and as Markdown, where names and statements from migration files become code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ops.markdown import code, table
from ops.migrations.locks import Lock, MeasuredStatement
from ops.migrations.plan import MigrationPlan, PendingPlan

_EFFECTS = {
    "ACCESS EXCLUSIVE": "blocks reads and writes",
    "EXCLUSIVE": "blocks writes",
    "SHARE ROW EXCLUSIVE": "blocks writes",
    "SHARE": "blocks writes",
    "SHARE UPDATE EXCLUSIVE": "blocks schema changes and VACUUM",
}
# Includes dollar-quoted literals, and literals that are cut off at the end of the line.
_LITERAL = re.compile(r"'(?:[^']|'')*(?:'|$)|\$(\w*)\$.*?(?:\$\1\$|$)", re.DOTALL)
_NO_SQUAWK = "squawk is not installed; only groundwork's own rules were applied"


def as_text(plan: PendingPlan) -> Iterator[str]:
    """Yield the lines of a plan."""
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


def as_markdown(plan: PendingPlan) -> Iterator[str]:
    """Yield the lines of a plan as a Markdown section."""
    yield f"### Migrations: {' '.join(heading(plan))}"
    for each in plan.migrations:
        head, rows, findings = migration_lines(each, plan)
        yield from ("", *head, *rows)
        if findings:
            yield from ("", *findings)


def migration_lines(
    each: MigrationPlan, plan: PendingPlan
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return a migration's title with the table head, the table rows, and the list of findings.

    Literals in statements are replaced, because one may be a password.
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


def heading(plan: PendingPlan) -> Iterator[str]:
    """Yield one or two sentences that summarize the plan."""
    where = "an empty database" if plan.version is None else f"version {plan.version}"
    if not plan.migrations:
        yield f"nothing is pending at {where}"
        return
    yield f"{len(plan.migrations)} pending, from {where}; locks measured on a temporary server"
    if not plan.has_target:
        yield "(without a database there are no row estimates)"


def _title(plan: MigrationPlan, named: Callable[[str], str] = str) -> str:
    how = "in one transaction" if plan.in_transaction else "outside a transaction"
    late = ", older than the newest applied one" if plan.is_late else ""
    return f"{named(plan.name)} ({how}{late}; strongest lock: {plan.strongest_lock or 'none'})"


def _facts(
    statement: MeasuredStatement, plan: PendingPlan, named: Callable[[str], str] = str
) -> Iterator[str]:
    for lock in statement.locks:
        yield _lock(lock, plan, named)
    for name in statement.rewrites:
        yield f"rewrites {named(name)}{_rows(name, plan)}"
    for name in statement.scans:
        yield f"scans {named(name)}{_rows(name, plan)}"
    if not (statement.locks or statement.rewrites or statement.scans):
        yield "locks no existing table"


def _lock(lock: Lock, plan: PendingPlan, named: Callable[[str], str]) -> str:
    effect = f", {_EFFECTS[lock.mode]}" if lock.mode in _EFFECTS else ""
    partitions = " and its partitions" if lock.has_partitions else ""
    return f"{lock.mode} on {named(lock.name)}{partitions}{_rows(lock.name, plan)}{effect}"


def _rows(name: str, plan: PendingPlan) -> str:
    if not plan.has_target:
        return ""
    if name not in plan.rows:
        return " (does not exist on the target yet)"
    count = plan.rows[name]
    return " (never analyzed)" if count is None else f" (about {count} rows)"
