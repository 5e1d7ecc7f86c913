"""The Docker program, run once a module of tests with the default settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.infra.program import Program, run_program

Run = Callable[..., Program]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the program with settings given by key."""

    def run_with(**settings: Any) -> Program:
        with pytest.MonkeyPatch.context() as patch:
            # Its context holds wheels, which are downloaded.
            patch.setattr("infra.docker.access.access_context", lambda world: (Path("/nowhere"), "0" * 64))
            # The recording engine's certificates are none.
            patch.setattr(
                "infra.docker.monitoring.expires_at", lambda certificate: datetime(2030, 1, 1, tzinfo=UTC)
            )
            return run_program(tmp_path_factory.mktemp("state"), **settings)

    return run_with


@pytest.fixture(scope="module")
def program(run: Run) -> Program:
    return run()


@pytest.fixture(scope="module")
def monitored(run: Run) -> Program:
    """The program with monitoring on."""
    return run(monitoring="true", monitoringTargets={"web": "web-1:9000, web-2:9000"})
