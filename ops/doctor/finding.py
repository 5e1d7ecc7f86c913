"""What a check says: a status, a short finding, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How it stands; `skipped` says that nobody looked, and why."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


# From the best to the worst: of several judgements the worst is a check's.
_SEVERITY = (Status.SKIPPED, Status.OK, Status.WARN, Status.FAIL)


def worst(statuses: Sequence[Status]) -> Status:
    """The worst of them; ok where there is none."""
    return max(statuses, key=_SEVERITY.index, default=Status.OK)


@dataclass(frozen=True)
class Finding:
    """One check's answer. `details` are the cases one by one, `advice` is what to do where it is not ok.

    `unreachable` marks the check that a server did not answer.
    """

    status: Status
    text: str
    advice: str = ""
    details: tuple[str, ...] = ()
    unreachable: bool = False


def counted(number: int, noun: str) -> str:
    """`1 index`, `2 indexes`: the plural is made with an s or, after x, es."""
    plural = noun + ("es" if noun.endswith("x") else "s")
    return f"{number} {noun if number == 1 else plural}"


def ok(text: str, details: Sequence[str] = ()) -> Finding:
    return Finding(Status.OK, text, details=tuple(details))


def warn(text: str, advice: str, details: Sequence[str] = ()) -> Finding:
    return Finding(Status.WARN, text, advice, tuple(details))


def fail(text: str, advice: str, details: Sequence[str] = ()) -> Finding:
    return Finding(Status.FAIL, text, advice, tuple(details))


def skipped(reason: str, advice: str = "") -> Finding:
    return Finding(Status.SKIPPED, reason, advice)


def judged(status: Status, text: str, advice: str, details: Sequence[str] = ()) -> Finding:
    """A finding of a status that was reckoned; an ok one needs no advice."""
    return Finding(status, text, "" if status is Status.OK else advice, tuple(details))


def level(value: float, warn_at: float, fail_at: float) -> Status:
    """Where a value stands between two thresholds: the higher, the worse."""
    if value >= fail_at:
        return Status.FAIL
    return Status.WARN if value >= warn_at else Status.OK
