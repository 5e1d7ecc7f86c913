"""A stack of test servers whose sessions and statements `top` shows."""

from __future__ import annotations

import pytest

from ops.servers.monitored_stack import MonitoredStack
from tests.conftest import Database
from tests.containers import Server
from tests.monitored import monitored


@pytest.fixture
def stack(database: Database, redis_server: Server) -> MonitoredStack:
    return monitored(database, redis_server)
