"""Fixtures: a temporary server for the folder, and the review commands."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.commands.migrate import migrate
from ops.errors import OpsError
from ops.migrations import plan, verification
from ops.servers import scratch_server as scratch
from ops.servers.scratch_server import ScratchServer
from tests.integration.migrator.conftest import Outcome
from tests.integration.migrator.conftest import folder as folder
from tests.integration.migrator.conftest import owner as owner
from tests.integration.migrator.conftest import write as write
from tests.superuser import Superuser

Run = Callable[..., Outcome]


class SharedScratch(ScratchServer):
    """One server for many tests. Each of its databases gets a new name."""

    def __init__(self, server: ScratchServer) -> None:
        self.__dict__.update(server.__dict__)
        self.superuser = Superuser(server.container)
        self._names = map("{}_{}".format, itertools.repeat("d"), itertools.count())

    def psql(self, sql: str, database: str = "postgres") -> str:
        return self.superuser.run(sql, database)

    def make_database(self, name: str) -> str:
        return super().make_database(next(self._names))

    def make_plain_database(self, name: str) -> str:
        return super().make_plain_database(next(self._names))


@contextmanager
def shared_scratch_server() -> Iterator[SharedScratch]:
    # On disk, because many databases do not fit into memory.
    with scratch.scratch_server(on_disk=True) as server:
        shared = SharedScratch(server)
        yield shared
        shared.superuser.close()


@pytest.fixture(scope="package")
def shared_scratch(docker_engine: None) -> Iterator[SharedScratch]:
    with shared_scratch_server() as shared:
        yield shared


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
