"""A pytest plugin that prints the ten slowest tests and the time by kind (unit, integration, faults, infra).

`python -m tests` starts pytest more than once: `collected()` names a file that each run adds to, and prints one summary
of all runs.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SLOWEST = 10
_FILE = "GROUNDWORK_TEST_DURATIONS"


class Durations:
    """Seconds of each test, including its fixtures' set-up and teardown."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if path := os.environ.get(_FILE):
            with Path(path).open("a") as file:
                file.write(json.dumps(self.seconds) + "\n")
        else:
            terminalreporter.write_line(summary(self.seconds))


def pytest_configure(config: pytest.Config) -> None:
    # The workers of pytest-xdist send their reports to the process that started them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations())


@contextmanager
def collected() -> Iterator[dict[str, str]]:
    """Yield the environment for the pytest runs inside the block; print one summary of all of them at its end."""
    with tempfile.NamedTemporaryFile(prefix="groundwork-durations-") as file:
        yield {_FILE: file.name}
        seconds: defaultdict[str, float] = defaultdict(float)
        for line in Path(file.name).read_text().splitlines():
            for nodeid, duration in json.loads(line).items():
                seconds[nodeid] += duration
        print(summary(seconds))


def summary(seconds: dict[str, float]) -> str:
    """Return the ten slowest tests, and the seconds and count of tests by kind."""
    slowest = sorted(seconds, key=lambda nodeid: seconds[nodeid], reverse=True)[:SLOWEST]
    kinds: defaultdict[str, list[float]] = defaultdict(list)
    for nodeid, duration in seconds.items():
        kinds[nodeid.removeprefix("tests/").partition("/")[0]].append(duration)
    return "\n".join(
        [
            "slowest tests, with set-up and teardown:",
            *(f"{seconds[nodeid]:8.1f} s  {nodeid}" for nodeid in slowest),
            "time by kind, over all processes:",
            *(
                f"{sum(durations):8.1f} s  {kind} ({len(durations)} tests)"
                for kind, durations in sorted(kinds.items(), key=lambda item: -sum(item[1]))
            ),
        ]
    )
