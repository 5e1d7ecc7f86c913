"""Three servers and three Sentinels for all tests of this folder. Each test leaves them complete."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_group import Group, redis_group


@pytest.fixture(scope="package")
def group(docker_engine: None) -> Iterator[Group]:
    with redis_group() as group:
        yield group
