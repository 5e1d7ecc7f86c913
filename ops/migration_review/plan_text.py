"""A plan as text for a terminal, and as Markdown for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from ops.migration_review.locks import Lock, Measured
from ops.migration_review.plan import MigrationPlan, Plan

_EFFECTS = {
    "ACCESS EXCLUSIVE": "blocks reads and writes",
    "EXCLUSIVE": "blocks writes",
    "SHARE ROW EXCLUSIVE": "blocks writes",
    "SHARE": "blocks writes",
    "SHARE UPDATE EXCLUSIVE": "blocks schema changes and VACUUM",
}
_NO_LINTER = "squawk is not installed, so nothing was linted"


def as_text(plan: Plan) -> Iterator[str]:
    """The lines of a plan."""
    yield from _heading(plan)
    for each in plan.migrations:
        yield ""
        yield _title(each)
        for statement in each.statements:
            yield f"  line {statement.line:<4} {statement.text}"
            yield from (f"            {fact}" for fact in _facts(statement, plan))
        if each.findings is None:
            yield f"  {_NO_LINTER}"
        for finding in each.findings or ():
            yield f"  line {finding.line:<4} squawk, {finding.rule}: {finding.message} {finding.help}".rstrip()


def as_markdown(plan: Plan) -> Iterator[str]:
    """The lines of a comment."""
    yield f"### Migrations: {' '.join(_heading(plan))}"
    for each in plan.migrations:
        yield ""
        yield f"#### {_title(each)}"
        yield ""
        yield "| line | statement | measured |"
        yield "|---|---|---|"
        for statement in each.statements:
            facts = "<br>".join(map(_cell, _facts(statement, plan)))
            yield f"| {statement.line} | `{_cell(statement.text)}` | {facts} |"
        if each.findings is None:
            yield from ("", f"{_NO_LINTER}.")
        for n, finding in enumerate(each.findings or ()):
            yield from [""] * (n == 0)
            yield f"- line {finding.line}, `{finding.rule}`: {finding.message} {finding.help}".rstrip()


def _heading(plan: Plan) -> Iterator[str]:
    where = "an empty database" if plan.version is None else f"version {plan.version}"
    if not plan.migrations:
        yield f"nothing is pending at {where}"
        return
    yield f"{len(plan.migrations)} pending, from {where}; locks measured on a throwaway server"
    if not plan.has_target:
        yield "(no database was asked, so there are no estimates of rows)"


def _title(plan: MigrationPlan) -> str:
    how = "outside a transaction" if plan.migration.up.no_transaction else "in one transaction"
    late = ", older than what is applied" if plan.is_late else ""
    return f"{plan.migration.name} ({how}{late}; strongest lock: {plan.strongest_lock or 'none'})"


def _facts(statement: Measured, plan: Plan) -> Iterator[str]:
    for lock in statement.locks:
        yield _lock(lock, plan)
    for name in statement.rewrites:
        yield f"writes {name} anew{_rows(name, plan)}"
    for name in statement.scans:
        yield f"reads {name} through{_rows(name, plan)}"
    if not (statement.locks or statement.rewrites or statement.scans):
        yield "no lock on a table that was there before"


def _lock(lock: Lock, plan: Plan) -> str:
    effect = f", {_EFFECTS[lock.mode]}" if lock.mode in _EFFECTS else ""
    partitions = " and its partitions" if lock.has_partitions else ""
    return f"{lock.mode} on {lock.name}{partitions}{_rows(lock.name, plan)}{effect}"


def _rows(name: str, plan: Plan) -> str:
    if not plan.has_target:
        return ""
    if name not in plan.rows:
        return " (not there on the target yet)"
    count = plan.rows[name]
    return " (never analyzed)" if count is None else f" (about {count} rows)"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")
