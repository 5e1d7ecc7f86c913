"""Render a rehearsal as text."""

from __future__ import annotations

from collections.abc import Iterator

from ops.migrations.rehearsal.rehearsal import Quantiles, QueryReport, Rehearsal


def as_text(rehearsal: Rehearsal) -> Iterator[str]:
    """Yield the lines of a rehearsal: migrations, then queries in descending order of their lock waits."""
    width = max((len(each.name) for each in rehearsal.migrations), default=0)
    for each in rehearsal.migrations:
        retries = f", {each.retries} retries for a lock" if each.retries else ""
        yield (
            f"{each.name:<{width}}  {each.seconds:.2f} s,"
            f" longest lock wait {each.longest_lock_wait_ms:.0f} ms{retries}"
        )
    yield ""
    width = max((len(each.query) for each in rehearsal.queries), default=0)
    head = f"{'query, in ms':<{width}}"
    yield f"{head}  {'before: p50/p99/max':>22}  {'migrating: p50/p99/max':>22}  {'blocked: p50/p99/max':>22}  errors"
    for query in rehearsal.queries:
        before, during, blocked = (
            _quantiles(each) for each in (query.took["before"], query.took["during"], query.blocked["during"])
        )
        yield f"{query.query:<{width}}  {before:>22}  {during:>22}  {blocked:>22}  {_errors(query)}".rstrip()
    for key, reason in rehearsal.skipped.items():
        yield f"{key:<{width}}  not sent: {reason}"
    if rehearsal.budget_ms is None:
        return
    yield ""
    if not rehearsal.missed:
        yield f"no query exceeds the budget of {rehearsal.budget_ms:g} ms"
        return
    yield f"{len(rehearsal.missed)} queries exceed the budget of {rehearsal.budget_ms:g} ms:"
    for query in rehearsal.missed:
        failed = f", failed with {', '.join(sorted(query.new_errors))}" if query.new_errors else ""
        yield f"  {query.query}: blocked for {query.blocked_ms:.0f} ms{failed}"


def _quantiles(values: Quantiles | None) -> str:
    return "-" if values is None else f"{values.p50:.0f}/{values.p99:.0f}/{values.max:.0f}"


def _errors(query: QueryReport) -> str:
    parts = [
        f"{phase} " + " ".join(f"{code}x{count}" for code, count in query.errors[phase].items())
        for phase in ("before", "during")
        if query.errors[phase]
    ]
    return ", ".join(parts)
