"""A backed-up server for the module's tests, with a full backup and a row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backed_up import BackedUp, backed_up_server


@pytest.fixture(scope="module")
def backed_up(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackedUp]:
    with backed_up_server(tmp_path_factory.mktemp("backup")) as server:
        server.note("kept-and-in-the-clear")
        server.backup()
        yield server
