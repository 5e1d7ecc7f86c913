"""Run single checks with the runner of the command."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

from ops.doctor.check_result import CheckResult
from ops.doctor.checks import CHECKS
from ops.doctor.examination import Examination
from ops.doctor.runner import choose, examine
from ops.doctor.thresholds import Thresholds
from ops.servers.monitored_stack import MonitoredStack

Ask = Callable[..., CheckResult]


def ask(stack: MonitoredStack, name: str, seconds_ahead: float = 0, **thresholds: Any) -> CheckResult:
    """Return the finding of one check, with other thresholds, or with this machine's clock set ahead."""
    with closing(Examination(stack, replace(Thresholds(), **thresholds))) as examination:
        usual = examination.now
        examination.now = lambda: usual() + seconds_ahead
        found = {check.name: f for check, f in examine(examination, choose(CHECKS, [name], []), CHECKS)}
    return found[name]


def ask_all(stack: MonitoredStack) -> dict[str, CheckResult]:
    """Return the findings of all checks by name."""
    with closing(Examination(stack)) as examination:
        return {check.name: finding for check, finding in examine(examination, CHECKS, CHECKS)}
