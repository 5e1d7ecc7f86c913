"""What is shown while something is put in place."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from ops.toolchain.progress import Progress, Step, clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (10, "0:10 min"), (187.9, "3:07 min")]
)
def test_times_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_step_says_what_how_long_and_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    step = Step("Pulumi CLI", "building", 240)
    now += 75
    step.count(5, 100, "packages")
    assert str(step) == "Pulumi CLI: building, 1:15 min of about 4:00 min, 5 of 100 packages"


def test_a_slow_machine_lengthens_the_expectation(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    step = Step("Pulumi CLI", "building", 240)
    now += 200
    step.count(50, 100, "packages")
    assert "of about 6:40 min" in str(step)


def test_without_a_terminal_a_line_comes_at_intervals(
    progress: Progress, said: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.toolchain.progress.PLAIN_INTERVAL_SECONDS", 0.1)
    with progress.step("Base image", "pulling") as step:
        time.sleep(0.35)
        step.doing = "pulled"
    lines = said.getvalue().splitlines()
    assert lines[0] == "Base image: pulling"
    assert [line.startswith("Base image: pulling, 0.") for line in lines[1:-1]] == [True] * (len(lines) - 2)
    assert len(lines) >= 4
    assert lines[-1].startswith("Base image: pulled, done in ")


def test_a_step_that_fails_is_not_called_done(progress: Progress, said: StringIO) -> None:
    with pytest.raises(RuntimeError), progress.step("Base image", "pulling"):
        raise RuntimeError
    assert "done" not in said.getvalue()


def test_on_a_terminal_only_the_result_stays() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with Progress(console).step("Base image", "pulling"):
        pass
    assert re.search(r"Base image: pulling, done in \d\.\d s\n\Z", screen.getvalue())
