"""Fixtures from the integration tests: a Redis for the session, and the data access over both servers."""

from __future__ import annotations

from tests.integration.conftest import (
    data,
    flavour,
    namespace,
    near_entries,
    open_data,
    redis_as_ops,
    redis_server,
)

__all__ = ["data", "flavour", "namespace", "near_entries", "open_data", "redis_as_ops", "redis_server"]
