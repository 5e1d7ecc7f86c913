"""Programs that the toolchain runs: output, time limits, failures."""

from __future__ import annotations

import subprocess
import time

import pytest

from ops.toolchain import process
from ops.toolchain.process import CommandFailed
from tests.cases import in_case


def test_the_lines_of_standard_output_are_returned() -> None:
    assert process.run(["sh", "-c", "echo one; echo two; echo noise >&2"]) == ["one", "two"]


def test_every_line_of_both_outputs_is_reported_immediately() -> None:
    seen: list[str] = []
    process.run(["sh", "-c", "echo one; echo noise >&2"], on_line=seen.append)
    assert sorted(seen) == ["noise", "one"]


def test_a_failure_contains_the_last_lines() -> None:
    with pytest.raises(CommandFailed, match="exit code 3: second") as failure:
        process.run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])
    assert failure.value.tail == ("first", "second")


def test_the_last_line_of_a_failure_is_that_of_stderr() -> None:
    cases: list[tuple[str, str, str]] = [
        ("stderr before stdout", "echo reason >&2; sleep 0.3; echo null; exit 3", "reason"),
        ("stdout before stderr", "echo null; sleep 0.3; echo reason >&2; exit 3", "reason"),
        ("only stdout", "echo first; echo second; exit 3", "second"),
        ("no output", "exit 3", "`sh -c exit 3` failed with exit code 3"),
    ]
    for name, script, last_line in cases:
        with in_case(name):
            with pytest.raises(CommandFailed) as failure:
                process.run(["sh", "-c", script])
            assert failure.value.last_line == last_line
            assert str(failure.value).endswith(last_line)


def test_a_long_standard_output_does_not_displace_the_errors() -> None:
    with pytest.raises(CommandFailed) as failure:
        process.run(["sh", "-c", "echo reason >&2; sleep 0.3; seq 100; exit 3"])
    assert failure.value.errors == ("reason",)


def test_a_missing_program_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match="`no-such-program` cannot be run"):
        process.run(["no-such-program"])


def test_a_silent_program_times_out_early() -> None:
    started = time.monotonic()
    with pytest.raises(CommandFailed, match="timed out"):
        process.run(["sleep", "30"], first_line_seconds=0.3, timeout_seconds=60)
    assert time.monotonic() - started < 5


def test_a_program_with_output_gets_the_whole_time() -> None:
    command = ["sh", "-c", "echo pulling; sleep 3; echo done"]
    assert process.run(command, first_line_seconds=2.5) == ["pulling", "done"]


def test_a_program_that_exceeds_its_time_limit_is_stopped() -> None:
    with pytest.raises(CommandFailed) as failed:
        process.run(["sh", "-c", "echo pulling; sleep 4711.25"], timeout_seconds=0.3)
    # Its last line is not the reason.
    assert failed.value.last_line == "`sh -c echo pulling; sleep 4711.25` timed out after 0 s: pulling"
    assert subprocess.run(["pgrep", "-f", "^sleep 4711.25"], check=False).returncode == 1
