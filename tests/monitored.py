"""Throwaway servers as a stack that can be monitored: what its outputs would say of it."""

from __future__ import annotations

from typing import Any

from infra.spec import postgres, roles
from ops.monitored_stack import MonitoredStack
from tests.conftest import Database
from tests.containers import Server

MAXMEMORY = 64 * 1024**2
LIMIT = 60


def monitored(database: Database, redis: Server, **changes: Any) -> MonitoredStack:
    """The stack of a database and a Redis made by tests.containers with its defaults; `changes` are fields."""
    server = database.server
    parameters = postgres.parameters(512 * 1024**2, 100) | {"fsync": "off"}
    fields: dict[str, Any] = {
        "name": "throwaway",
        "postgres_address": ("localhost", server.port),
        "redis_address": ("localhost", redis.port),
        "ca_file": server.ca_file,
        "expected": {
            "postgresParameters": parameters,
            "connectionLimits": dict.fromkeys(roles.LOGINS, LIMIT),
            "redisMaxmemoryBytes": MAXMEMORY,
            "redisEvictionPolicy": "allkeys-lfu",
            "redisPersistence": "none",
            "redisMaxclients": 1000,
        },
        "database_url": database.url("monitor"),
        "redis_url": redis.redis_url("monitor"),
        "ops_redis_url": redis.redis_url("ops"),
        "postgres_container": server.container,
        "database": database.name,
    }
    return MonitoredStack(**(fields | changes))
