"""Fixtures: a temporary server for the folder, and the review commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.commands.migrate import migrate
from ops.errors import OpsError
from ops.migrations import plan, verification
from tests.integration.migrator.conftest import Outcome, SharedScratch
from tests.integration.migrator.conftest import folder as folder
from tests.integration.migrator.conftest import owner as owner
from tests.integration.migrator.conftest import shared_scratch as shared_scratch
from tests.integration.migrator.conftest import write as write

Run = Callable[..., Outcome]


@pytest.fixture
def run(shared_scratch: SharedScratch, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run("plan", "--url", ...) runs a command with the shared server instead of a new one."""

    @contextmanager
    def shared(**_: object) -> Iterator[SharedScratch]:
        yield shared_scratch

    for module in (plan, verification):
        monkeypatch.setattr(module, "scratch_server", shared)
    return invoke


def invoke(*arguments: str | Path) -> Outcome:
    """Run a command of `groundwork migrate` in this process, and return exit code, stdout and the error line."""
    result = CliRunner().invoke(migrate, [str(argument) for argument in arguments])
    if isinstance(result.exception, OpsError):
        return Outcome(result.exception.exit_code, result.stdout, str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)
