"""Every check by name, in the order they are shown."""

from __future__ import annotations

from ops.doctor import (
    access,
    backups,
    certificates,
    clock,
    grants,
    indexes,
    migrations,
    postgres_drift,
    redis_drift,
    redis_health,
    sessions,
    storage,
)
from ops.doctor.examination import Check, Server

CHECKS = (
    Check("postgres", Server.POSTGRES, sessions.reached, reaches=True),
    Check("postgres-connections", Server.POSTGRES, sessions.connections),
    Check("postgres-hit-rate", Server.POSTGRES, storage.hit_rate),
    Check("long-transactions", Server.POSTGRES, sessions.long_transactions),
    Check("locks", Server.POSTGRES, sessions.locks),
    Check("invalid-indexes", Server.POSTGRES, indexes.invalid),
    Check("duplicate-indexes", Server.POSTGRES, indexes.duplicate),
    Check("unused-indexes", Server.POSTGRES, indexes.unused),
    Check("bloat", Server.POSTGRES, storage.bloat),
    Check("dead-rows", Server.POSTGRES, storage.dead_rows),
    Check("wraparound", Server.POSTGRES, storage.wraparound),
    Check("migrations", Server.POSTGRES, migrations.migrations),
    Check("postgres-settings", Server.POSTGRES, postgres_drift.parameters),
    Check("roles", Server.POSTGRES, postgres_drift.roles),
    Check("grants", Server.POSTGRES, grants.grants),
    Check("postgres-clock", Server.POSTGRES, clock.postgres_clock),
    Check("backups", Server.POSTGRES, backups.backups),
    Check("redis", Server.REDIS, redis_health.reached, reaches=True),
    Check("redis-connections", Server.REDIS, redis_health.clients),
    Check("redis-hit-rate", Server.REDIS, redis_health.hit_rate),
    Check("redis-memory", Server.REDIS, redis_health.memory),
    Check("evictions", Server.REDIS, redis_health.evictions),
    Check("fragmentation", Server.REDIS, redis_health.fragmentation),
    Check("redis-settings", Server.REDIS, redis_drift.configuration),
    Check("redis-users", Server.REDIS, redis_drift.users),
    Check("redis-clock", Server.REDIS, clock.redis_clock),
    Check("access", Server.OTHERS, access.readiness, reaches=True),
    Check("certificates", Server.OTHERS, certificates.certificates),
)
