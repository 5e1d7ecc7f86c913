"""The display of progress during an installation."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from ops.toolchain.progress import Progress, ProgressStep, clock
from tests.cases import in_case


def test_durations_are_readable() -> None:
    cases: list[tuple[float, str]] = [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (10, "0:10 min"),
        (187.9, "3:07 min"),
    ]
    for seconds, text in cases:
        with in_case(seconds, text):
            assert clock(seconds) == text


def test_a_step_shows_name_time_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    step = ProgressStep("Pulumi CLI", "building", 240)
    now += 75
    step.count(5, 100, "packages")
    assert str(step) == "Pulumi CLI: building, 1:15 min of about 4:00 min, 5 of 100 packages"


def test_a_slow_machine_increases_the_expected_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    step = ProgressStep("Pulumi CLI", "building", 240)
    now += 200
    step.count(50, 100, "packages")
    assert "of about 6:40 min" in str(step)


def test_without_a_terminal_a_line_is_printed_at_intervals(
    progress: Progress, said: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.toolchain.progress.PLAIN_INTERVAL_SECONDS", 0.1)
    with progress.step("Base image", "pulling") as step:
        while said.getvalue().count("\n") < 3:
            time.sleep(0.01)
        step.doing = "pulled"
    lines = said.getvalue().splitlines()
    assert lines[0] == "Base image: pulling"
    assert all(re.match(r"Base image: (pulling|pulled), \d", line) for line in lines[1:-1])
    assert lines[-1].startswith("Base image: pulled, done in ")


def test_a_failed_step_is_not_reported_as_done(progress: Progress, said: StringIO) -> None:
    with pytest.raises(RuntimeError), progress.step("Base image", "pulling"):
        raise RuntimeError
    assert "done" not in said.getvalue()


def test_on_a_terminal_only_the_result_remains() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with Progress(console).step("Base image", "pulling"):
        pass
    assert re.search(r"Base image: pulling, done in \d\.\d s\n\Z", screen.getvalue())


def test_parallel_steps_have_a_line_each(
    progress: Progress, said: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.toolchain.progress.PLAIN_INTERVAL_SECONDS", 0.01)
    with progress.step("Pulumi CLI", "building"):
        with progress.step("Base image", "pulling"):
            while not ("CLI: building, " in said.getvalue() and "image: pulling, " in said.getvalue()):
                time.sleep(0.01)
        told = said.getvalue().count("image: pulling, ")
        more = said.getvalue().count("CLI: building, ") + 2
        while said.getvalue().count("CLI: building, ") < more:
            time.sleep(0.01)
        # The step may have been about to print when it finished.
        assert said.getvalue().count("image: pulling, ") <= told + 1
    assert said.getvalue().splitlines()[-1].startswith("Pulumi CLI: building, done in ")


def test_parallel_steps_share_a_terminal() -> None:
    screen = StringIO()
    progress = Progress(Console(file=screen, force_terminal=True, width=80))
    with progress.step("Pulumi CLI", "building"), progress.step("Base image", "pulling"):
        pass
    assert re.search(
        r"Base image: pulling, done in .*Pulumi CLI: building, done in ", screen.getvalue(), re.DOTALL
    )
