"""Programs the toolchain runs: their output, their deadlines, their failures."""

from __future__ import annotations

import subprocess
import time

import pytest

from ops.toolchain import process
from ops.toolchain.process import CommandFailed


def test_the_lines_of_standard_output_are_returned() -> None:
    assert process.run(["sh", "-c", "echo one; echo two; echo noise >&2"]) == ["one", "two"]


def test_every_line_of_both_outputs_is_told_as_it_comes() -> None:
    seen: list[str] = []
    process.run(["sh", "-c", "echo one; echo noise >&2"], on_line=seen.append)
    assert sorted(seen) == ["noise", "one"]


def test_a_failure_carries_the_last_lines() -> None:
    with pytest.raises(CommandFailed, match="exit code 3: second") as failure:
        process.run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])
    assert failure.value.tail == ("first", "second")


def test_a_program_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match="`no-such-program` cannot be run"):
        process.run(["no-such-program"])


def test_a_silent_program_is_given_up_early() -> None:
    started = time.monotonic()
    with pytest.raises(CommandFailed, match="did not end"):
        process.run(["sleep", "30"], first_line_seconds=0.3, timeout_seconds=60)
    assert time.monotonic() - started < 5


def test_a_program_that_spoke_is_given_its_whole_time() -> None:
    command = ["sh", "-c", "echo pulling; sleep 1; echo done"]
    assert process.run(command, first_line_seconds=0.5) == ["pulling", "done"]


def test_a_program_that_outlasts_its_deadline_is_ended() -> None:
    with pytest.raises(CommandFailed):
        process.run(["sleep", "4711.25"], timeout_seconds=0.3)
    assert subprocess.run(["pgrep", "-f", "^sleep 4711.25"], check=False).returncode == 1
