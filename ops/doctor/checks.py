"""All checks by name, in display order."""

from __future__ import annotations

from ops.doctor import (
    access,
    backups,
    certificates,
    clock,
    grants,
    indexes,
    migrations,
    packages,
    postgres_drift,
    redis_drift,
    redis_health,
    sessions,
    storage,
)
from ops.doctor.examination import Check, CheckedServer

CHECKS = (
    Check("postgres", CheckedServer.POSTGRES, sessions.reached, reaches=True),
    Check("postgres-connections", CheckedServer.POSTGRES, sessions.connections),
    Check("postgres-hit-rate", CheckedServer.POSTGRES, storage.hit_rate),
    Check("long-transactions", CheckedServer.POSTGRES, sessions.long_transactions),
    Check("locks", CheckedServer.POSTGRES, sessions.locks),
    Check("notify-queue", CheckedServer.POSTGRES, sessions.notify_queue),
    Check("invalid-indexes", CheckedServer.POSTGRES, indexes.invalid),
    Check("duplicate-indexes", CheckedServer.POSTGRES, indexes.duplicate),
    Check("unused-indexes", CheckedServer.POSTGRES, indexes.unused),
    Check("bloat", CheckedServer.POSTGRES, storage.bloat),
    Check("dead-rows", CheckedServer.POSTGRES, storage.dead_rows),
    Check("wraparound", CheckedServer.POSTGRES, storage.wraparound),
    Check("migrations", CheckedServer.POSTGRES, migrations.migrations),
    Check("postgres-settings", CheckedServer.POSTGRES, postgres_drift.parameters),
    Check("roles", CheckedServer.POSTGRES, postgres_drift.roles),
    Check("grants", CheckedServer.POSTGRES, grants.grants),
    Check("postgres-clock", CheckedServer.POSTGRES, clock.postgres_clock),
    Check("backups", CheckedServer.POSTGRES, backups.backups),
    Check("redis", CheckedServer.REDIS, redis_health.reached, reaches=True),
    Check("redis-replicas", CheckedServer.REDIS, redis_health.replicas),
    Check("redis-connections", CheckedServer.REDIS, redis_health.clients),
    Check("redis-hit-rate", CheckedServer.REDIS, redis_health.hit_rate),
    Check("redis-memory", CheckedServer.REDIS, redis_health.memory),
    Check("evictions", CheckedServer.REDIS, redis_health.evictions),
    Check("fragmentation", CheckedServer.REDIS, redis_health.fragmentation),
    Check("redis-settings", CheckedServer.REDIS, redis_drift.configuration),
    Check("redis-users", CheckedServer.REDIS, redis_drift.users),
    Check("redis-clock", CheckedServer.REDIS, clock.redis_clock),
    Check("access", CheckedServer.OTHERS, access.readiness, reaches=True),
    Check("packages", CheckedServer.OTHERS, packages.packages),
    Check("certificates", CheckedServer.OTHERS, certificates.certificates),
)
