"""Temporary servers, described by the outputs of a stack, so that they can be monitored."""

from __future__ import annotations

from typing import Any

from infra.spec import postgres, roles
from ops.servers.monitored_stack import MonitoredStack
from tests.conftest import Database
from tests.containers import Server

MAXMEMORY = 64 * 1024**2
LIMIT = 60


def monitored(database: Database, redis: Server, **changes: Any) -> MonitoredStack:
    """Return a stack of a database and a Redis that tests.containers created with its defaults.

    `changes` replaces fields of the stack.
    """
    server = database.server
    parameters = postgres.parameters(512 * 1024**2, 100) | {"fsync": "off"}
    fields: dict[str, Any] = {
        "name": "temporary",
        "postgres_address": ("localhost", server.port),
        "redis_addresses": [("localhost", redis.port)],
        "ca_file": server.ca_file,
        "expected": {
            "postgresParameters": parameters,
            "connectionLimits": dict.fromkeys(roles.LOGINS, LIMIT),
            "verifierDigests": {
                login: roles.verifier_digest(verifier) for login, verifier in server.verifiers.items()
            },
            "redisMaxmemoryBytes": MAXMEMORY,
            "redisEvictionPolicy": "allkeys-lfu",
            "redisPersistence": "none",
            "redisMaxclients": 1000,
        },
        "database_url": database.url("monitor"),
        "migrator_url": database.url("migrator"),
        "redis_url": redis.redis_url("monitor"),
        "ops_redis_url": redis.redis_url("ops"),
        "postgres_container": server.container,
        "database": database.name,
    }
    return MonitoredStack(**(fields | changes))
