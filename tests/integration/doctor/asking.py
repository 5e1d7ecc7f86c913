"""One check asked of one stack, through the same runner as the command's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

from ops.doctor.checks import CHECKS
from ops.doctor.examination import Examination
from ops.doctor.finding import Finding
from ops.doctor.runner import choose, examine
from ops.doctor.thresholds import Thresholds
from ops.monitored_stack import MonitoredStack

Ask = Callable[..., Finding]


def ask(stack: MonitoredStack, name: str, seconds_ahead: float = 0, **thresholds: Any) -> Finding:
    """The finding of one check, with other thresholds, or as if this machine's clock were ahead."""
    with closing(Examination(stack, replace(Thresholds(), **thresholds))) as examination:
        usual = examination.now
        examination.now = lambda: usual() + seconds_ahead
        found = {check.name: f for check, f in examine(examination, choose(CHECKS, [name], []), CHECKS)}
    return found[name]


def ask_all(stack: MonitoredStack) -> dict[str, Finding]:
    """Every check's finding by name."""
    with closing(Examination(stack)) as examination:
        return {check.name: finding for check, finding in examine(examination, CHECKS, CHECKS)}
