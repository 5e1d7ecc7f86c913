"""The report of a run as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from ops.chaos.outcome import FaultOutcome, Run, Write
from ops.chaos.plan import Step

_UNKNOWN = "-"
# How many lost writes the text names. The JSON object has all of them.
_MOST_LOST = 5


def document(run: Run, *, strict: bool, path: Path | None) -> dict[str, Any]:
    """Return everything that the page shows. Times of the run are seconds since its beginning."""
    load = run.load
    return {
        "stack": run.stack,
        "seed": run.seed,
        "startedAt": datetime.fromtimestamp(run.started_at, UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 1),
        "load": run.load_name,
        "html": None if path is None else str(path),
        "wasStopped": run.was_stopped,
        "brokenPromises": run.broken_promises(strict=strict),
        "notRecovered": list(run.left),
        "notLookedUp": run.unchecked or None,
        "failedFaults": run.failed_faults(),
        "programExitCode": run.program_code,
        "faults": [_fault(run, each) for each in run.faults],
        "skipped": [step.as_json() | {"reason": reason} for step, reason in run.skipped],
        "writes": None
        if load is None
        else {
            "acknowledged": len(load.writes),
            "unknown": load.unknown,
            "lost": load.lost_count,
            # As text, because many programs read a number of JSON as a float.
            "lostWrites": [
                {"githubId": str(each.github_id), "update": each.update, "acknowledgedAt": round(each.at, 1)}
                for each in _by_time(load.lost)
            ],
        },
        "reads": None if load is None else {"answered": load.reads, "stale": load.stale},
        "errors": None if load is None else load.errors_by_type(),
        "timeline": None
        if load is None
        else [
            {"second": second, "writes": found.writes, "reads": found.reads, "errors": found.errors}
            for second, found in sorted(load.buckets.items())
        ],
    }


def _fault(run: Run, fault: FaultOutcome) -> dict[str, Any]:
    load = run.load
    return {
        "fault": fault.step.fault,
        "target": fault.step.target,
        "service": fault.service,
        "note": fault.note,
        "problem": fault.problem,
        "began": round(fault.began, 1),
        "ended": round(fault.ended, 1),
        "recoverySeconds": _rounded(fault.recovery_seconds),
        "writeGapSeconds": _rounded(run.gap(fault)),
        "errors": None if load is None else load.errors_by_type(fault.began, fault.recovered or run.seconds),
    }


def text(run: Run) -> Iterator[str]:
    """Yield the lines of the report."""
    yield (
        f"{'at':>6}{'fault':>12}  {'server':<22}{'for':>7}{'recovery':>10}{'write gap':>11}{'errors':>8}  note"
    )
    for fault in run.faults:
        errors = run.load.errors_by_type(fault.began, fault.recovered or run.seconds) if run.load else {}
        cells = (
            f"{fault.began:>5.0f}s{fault.step.fault:>12}  {fault.server:<22}{fault.ended - fault.began:>6.1f}s"
            f"{seconds(fault.recovery_seconds):>10}{seconds(run.gap(fault)):>11}"
            f"{sum(errors.values()) if run.load else _UNKNOWN:>8}"
        )
        yield f"{cells}  {fault.problem or fault.note}".rstrip()
    for step, reason in run.skipped:
        yield f"{'-':>6}{step.fault:>12}  {step.target}: skipped, {reason}"
    if run.load is not None:
        load = run.load
        yield ""
        lost = f"{_count(load.lost_count)} of them lost, " if load.writes else ""
        yield f"writes   {len(load.writes)} acknowledged, {lost}{load.unknown} without an answer"
        yield from (f"lost     {each}" for each in _by_time(load.lost)[:_MOST_LOST])
        if load.lost:
            yield f"         the rows stay until the next run, or `groundwork chaos stop --stack {run.stack}`"
        yield f"reads    {load.reads} answered{f', {load.stale} of them stale' if load.reads else ''}"
        yield f"errors   {', '.join(f'{name} {count}' for name, count in load.errors_by_type().items()) or 'none'}"
    if run.program_code is not None:
        yield ""
        yield f"load     {run.load_name!r} exited with {run.program_code}"
    if unfinished := run.unfinished():
        yield ""
        yield from (f"problem  {each}" for each in unfinished)


def plan_text(steps: list[Step]) -> Iterator[str]:
    """Yield the lines of a plan."""
    yield f"{'at':>6}{'for':>7}  fault"
    for step in steps:
        duration = f"{step.seconds}s" if step.seconds else _UNKNOWN
        yield f"{step.at:>5}s{duration:>7}  {step.fault} {step.target}"


def seconds(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1f}s"


def _by_time(writes: list[Write]) -> list[Write]:
    return sorted(writes, key=attrgetter("at"))


def _count(value: int | None) -> str:
    return "an unknown number" if value is None else str(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
