"""The outcome of a run: each fault, the results of the load's calls, and whether the promises held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ops.chaos.plan import SWITCHOVER, Step

# With replicas, the longest time without an acknowledged write that --strict accepts, on a machine that is not busy.
_GAP_SECONDS = 30.0
_SWITCHOVER_GAP_SECONDS = 15.0


@dataclass
class Bucket:
    """What clients saw in one second."""

    writes: int = 0
    reads: int = 0
    errors: int = 0


class Write(NamedTuple):
    """An acknowledged write: the insert of a row (update 0), or a later update of it."""

    github_id: int
    update: int
    at: float

    def __str__(self) -> str:
        what = f"update {self.update}" if self.update else "the insert"
        return f"{what} of github_id {self.github_id}, acknowledged at {self.at:.1f} s"


@dataclass
class LoadOutcome:
    """What the load's clients saw. Times are in seconds since the beginning of the run.

    `began` is when the clients were ready. `unknown` are writes without an answer. `lost` are acknowledged writes that
    the database has lost, and `unchecked` is why not all were looked up at the end, or empty. `stale` are reads that
    returned an older value than they may (docs/data-access.md).
    """

    began: float = 0.0
    writes: list[float] = field(default_factory=list)
    unknown: int = 0
    lost: list[Write] = field(default_factory=list)
    unchecked: str = "the command was interrupted"
    reads: int = 0
    stale: int = 0
    errors: list[tuple[float, str]] = field(default_factory=list)
    buckets: dict[int, Bucket] = field(default_factory=dict)

    @property
    def lost_count(self) -> int | None:
        """Return how many writes are known to be lost, or None if none is and not all were looked up."""
        return None if self.unchecked and not self.lost else len(self.lost)

    def bucket(self, at: float) -> Bucket:
        return self.buckets.setdefault(int(at), Bucket())

    def errors_by_type(self, since: float = 0, until: float = float("inf")) -> dict[str, int]:
        return dict(Counter(name for at, name in self.errors if since <= at <= until).most_common())

    def gap(self, since: float, until: float, end: float) -> float:
        """Return the longest time without an acknowledged write that overlaps a period. The load ended at `end`."""
        times = [self.began, *sorted(self.writes), end]
        gaps = [after - before for before, after in pairwise(times) if after >= since and before <= until]
        return max(gaps, default=0.0)

    def unanswered(self) -> list[str]:
        """Return the kinds of calls of which none was answered."""
        return [kind for kind, count in (("write", len(self.writes)), ("read", self.reads)) if not count]


@dataclass
class FaultOutcome:
    """A fault that was begun. `recovered` is when every server worked again, or None if that was not seen.

    `problem` is the error of causing or undoing it. `failed` is whether there was one, except that the fault is
    impossible.
    """

    step: Step
    service: str
    began: float
    ended: float = 0.0
    recovered: float | None = None
    note: str = ""
    problem: str = ""
    took_effect: bool = False
    failed: bool = False

    @property
    def server(self) -> str:
        """Return the server, and its role when the fault began if it was chosen by its role."""
        role = self.step.target.partition(" ")[2]
        return f"{self.service} ({role})" if role else self.service

    @property
    def recovery_seconds(self) -> float | None:
        return None if self.recovered is None else self.recovered - self.ended

    @property
    def longest_gap(self) -> float:
        return _SWITCHOVER_GAP_SECONDS if self.step.fault == SWITCHOVER else _GAP_SECONDS


@dataclass
class Run:
    """One run. `program_code` is the exit code of the user's own load, and `left` what does not work at the end.

    `not_undone` are the faults that are still in the journal at the end. `left` names them too.
    """

    stack: str
    seed: int
    started_at: float
    load_name: str
    has_replicas: bool
    seconds: float = 0.0
    faults: list[FaultOutcome] = field(default_factory=list)
    skipped: list[tuple[Step, str]] = field(default_factory=list)
    load: LoadOutcome | None = None
    program_code: int | None = None
    left: Sequence[str] = ()
    not_undone: Sequence[str] = ()
    was_stopped: bool = False

    def gap(self, fault: FaultOutcome) -> float | None:
        """Return the longest time without an acknowledged write from a fault until its recovery."""
        if self.load is None:
            return None
        until = self.seconds if fault.recovered is None else fault.recovered
        return self.load.gap(fault.began, until, self.seconds)

    def broken_promises(self, *, strict: bool) -> list[str]:
        """Return which promises did not hold. Empty if all of them did."""
        found = []
        if self.load is not None and self.load.lost:
            found.append(f"{len(self.load.lost)} acknowledged writes were lost")
        if self.load is not None and self.load.stale:
            found.append(f"{self.load.stale} reads were stale")
        if self.program_code:
            found.append(f"the program of --load exited with {self.program_code}")
        if strict and self.has_replicas:
            found += [
                f"{each.step.fault} of {each.server}: no write was acknowledged for {gap:.1f} s"
                for each in self.faults
                if (gap := self.gap(each)) is not None and gap > each.longest_gap
            ]
        return found

    @property
    def unchecked(self) -> str:
        """Return why not all acknowledged writes were looked up. Empty if they were, or if there is no load."""
        return "" if self.load is None else self.load.unchecked

    def unfinished(self) -> list[str]:
        """Return what does not work at the end, and whether the acknowledged writes were not looked up."""
        found = [f"not recovered: {each}" for each in self.left]
        return [*found, f"what was written was not looked up: {self.unchecked}"] if self.unchecked else found

    def failed_faults(self) -> list[str]:
        """Return which faults failed, or that the run tested nothing: no fault took effect, or no call was answered.

        A run that was stopped need not have tested anything.
        """
        found = [
            f"{each.step.fault} of {each.server} failed: {each.problem}"
            for each in self.faults
            if each.failed
        ]
        if self.was_stopped:
            return found
        if not any(each.took_effect for each in self.faults):
            found.append("no fault took effect")
        if self.load is not None and (kinds := self.load.unanswered()):
            found.append(f"no {' and no '.join(kinds)} of the load was answered, so none was checked")
        return found
