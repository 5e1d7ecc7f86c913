"""What these tests look at is what Redis is asked and holds, so no near cache answers before it."""

from __future__ import annotations

import pytest


@pytest.fixture
def near_entries() -> int:
    return 0
