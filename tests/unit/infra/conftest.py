"""Runs of the Docker program, which all tests share: one for each set of settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.images.context import ImageContext
from tests.unit.infra.program import Program, run_program

Run = Callable[..., Program]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs the program with the given settings, once for all tests."""
    # Containers have labels with the state's path and id, so programs that a test compares must share the state.
    folder = tmp_path_factory.mktemp("state")
    programs: dict[str, Program] = {}

    def run_with(**settings: Any) -> Program:
        given = repr(sorted(settings.items()))
        if given not in programs:
            programs[given] = run_once(settings)
        return programs[given]

    def run_once(settings: dict[str, Any]) -> Program:
        with pytest.MonkeyPatch.context() as patch:
            # The build contexts contain wheels, which would be downloaded.
            for module in ("access", "postgres_cluster"):
                patch.setattr(
                    f"infra.docker.{module}.image_context",
                    lambda _, image, refresh: ImageContext(image, Path("/nowhere"), "0" * 64, refresh),
                )
            # The recording engine's certificates are not real ones.
            patch.setattr(
                "infra.certificates.expires_at", lambda certificate: datetime(2030, 1, 1, tzinfo=UTC)
            )
            return run_program(folder, **settings)

    return run_with


@pytest.fixture(scope="session")
def program(run: Run) -> Program:
    return run()


@pytest.fixture(scope="session")
def monitored(run: Run) -> Program:
    """The program with monitoring on."""
    return run(monitoring="true", monitoringTargets={"web": "web-1:9000, web-2:9000"})


@pytest.fixture(scope="session")
def clustered(run: Run) -> Program:
    """The program with replicas of Postgres."""
    return run(postgresReplicas=2)


@pytest.fixture(scope="session")
def replicated(run: Run) -> Program:
    """The program with replicas of Redis."""
    return run(redisReplicas="2")
