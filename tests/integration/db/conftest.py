"""A server whose certificate has expired, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import containers
from tests.containers import Server


@pytest.fixture(scope="package")
def expired_server(docker_engine: None) -> Iterator[Server]:
    with containers.postgres_server(certificate_days=-1, in_memory=True) as server:
        yield server
