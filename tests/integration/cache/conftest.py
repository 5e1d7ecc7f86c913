"""Fixtures without a near cache, because these tests check calls to Redis and its content."""

from __future__ import annotations

import pytest


@pytest.fixture
def near_entries() -> int:
    return 0
