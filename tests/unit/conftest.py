"""Unit tests fail if they leave a file, a socket, an event loop or a process open."""

from __future__ import annotations

from pathlib import Path

import pytest

_LEAKS = ("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for warning in _LEAKS:
                item.add_marker(pytest.mark.filterwarnings(warning))
