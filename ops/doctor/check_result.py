"""The result of a check: a status, a short finding, and advice."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# A placeholder in the commands of an advice. The runner replaces it by the stack's option, so that the commands run
# as printed.
STACK_OPTION = " --stack STACK"


class CheckStatus(StrEnum):
    """The outcome of a check. A `skipped` check did not run, and its text gives the reason."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


# From best to worst.
_SEVERITY = (CheckStatus.SKIPPED, CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAIL)


def worst(statuses: Sequence[CheckStatus]) -> CheckStatus:
    """Return the worst status, or ok if there are none."""
    return max(statuses, key=_SEVERITY.index, default=CheckStatus.OK)


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. `details` lists the individual cases, `advice` says what to do if it is not ok.

    `unreachable` is set if a server did not answer.
    """

    status: CheckStatus
    text: str
    advice: str = ""
    details: tuple[str, ...] = ()
    unreachable: bool = False


def counted(number: int, noun: str) -> str:
    """Return e.g. `1 table` or `2 indexes`. The plural ends in s, or in es after x."""
    plural = noun + ("es" if noun.endswith("x") else "s")
    return f"{number} {noun if number == 1 else plural}"


def psql_command(*statements: str) -> str:
    """Return a command, in backticks, that runs each statement as superuser in a separate transaction."""
    options = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
    return f"`groundwork psql{STACK_OPTION} {options}`"


def ok(text: str, details: Sequence[str] = ()) -> CheckResult:
    return CheckResult(CheckStatus.OK, text, details=tuple(details))


def warn(text: str, advice: str, details: Sequence[str] = ()) -> CheckResult:
    return CheckResult(CheckStatus.WARN, text, advice, tuple(details))


def fail(text: str, advice: str, details: Sequence[str] = ()) -> CheckResult:
    return CheckResult(CheckStatus.FAIL, text, advice, tuple(details))


def skipped(reason: str, advice: str = "") -> CheckResult:
    return CheckResult(CheckStatus.SKIPPED, reason, advice)


def judged(status: CheckStatus, text: str, advice: str, details: Sequence[str] = ()) -> CheckResult:
    """Return a finding with a computed status. The advice is left out if it is ok."""
    return CheckResult(status, text, "" if status is CheckStatus.OK else advice, tuple(details))


def level(value: float, warn_at: float, fail_at: float) -> CheckStatus:
    """Compare a value with two thresholds; a higher value is worse."""
    if value >= fail_at:
        return CheckStatus.FAIL
    return CheckStatus.WARN if value >= warn_at else CheckStatus.OK
