"""The resources that a load needs, as a low, a middle and a high estimate, and the AWS sizes that have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infra.settings.shared import SharedSettings
from infra.spec.aws_sizes import cache_memory, database_memory, most_connections, vcpus
from ops.sizing.figures import Figures

# Bytes of a row with its indexes, and of a cached entry with its key, of the sample data. A test measures them.
STORED_BYTES = {"user": 680, "activity": 530}
CACHED_BYTES = {"user": 350, "feed": 6_900}

_GB = 1024**3
_DAY = 86_400
# Half of the CPU is left free, for peaks, maintenance, and the failure of a server.
_USED_SHARE = 0.5
# The load's mean is a third of its peak.
_PEAK = 3
# An application's machine, network and data differ from the benchmark's by up to this factor in either direction.
_EITHER_WAY = 2.0
# One read in ten is of a feed, and feeds are cached for 5 min.
_FEED_READS = 0.1
_FEED_SECONDS = 300
_POOL_SIZE = 8
_ACCESS_TASKS = 2
# Of a Redis node's memory, the rest is reserved (awsRedisReservedPercent).
_CACHE_SHARE = 0.75
# A burstable class has a fifth of its CPU all the time.
_BASELINE = 0.2
_CLASSES = (
    *("db.t4g.medium", "db.t4g.large"),
    *(
        f"db.r7g.{size}"
        for size in ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge")
    ),
)
_NODES = (
    *("cache.t4g.small", "cache.t4g.medium"),
    *(f"cache.r7g.{size}" for size in ("large", "xlarge", "2xlarge", "4xlarge", "12xlarge")),
)


@dataclass(frozen=True)
class Load:
    """Stored users, reads and writes per second at the peak, and how long activities are kept."""

    users: int
    reads: float
    writes: float
    retention_days: int


@dataclass(frozen=True)
class Assumptions:
    """Values that are not measured. The low, the middle and the high estimate each assume others."""

    # Of the CPU time of a write, the share of the servers.
    servers_of_write: float
    # The share of users with a cached entry.
    cached_users: float
    # The share of the stored data that should fit in Postgres's memory.
    hot_data: float
    # Free space, WAL and bloat.
    storage: float
    either_way: float


LOW = Assumptions(0.25, 0.05, 0.05, 1.2, 1 / _EITHER_WAY)
MIDDLE = Assumptions(0.5, 0.2, 0.2, 1.5, 1.0)
HIGH = Assumptions(1.0, 1.0, 0.5, 2.0, _EITHER_WAY)


@dataclass(frozen=True)
class Estimate:
    """Needed resources, and the smallest sizes that have them. A class is None if none is large enough."""

    application_cores: float
    application_tasks: int
    postgres_cores: float
    postgres_memory: float
    postgres_storage: float
    postgres_connections: int
    postgres_class: str | None
    redis_memory: float
    redis_cores: float
    redis_node: str | None


def estimates(load: Load, figures: Figures) -> tuple[Estimate, Estimate, Estimate]:
    """Return the low, the middle and the high estimate."""
    read_a, read_s = figures.read_application, figures.read_servers
    # Activities of the sample data are small, those of GitHub large.
    feed = CACHED_BYTES["feed"]
    return (
        _estimate(load, read_a.least, read_s.least, figures.write, feed, LOW),
        _estimate(
            load, read_a.median, read_s.median, figures.write, math.sqrt(feed * figures.feed_bytes), MIDDLE
        ),
        _estimate(load, read_a.most, read_s.most, figures.write, figures.feed_bytes, HIGH),
    )


def _estimate(
    load: Load,
    read_application: float,
    read_servers: float,
    write: float,
    feed_bytes: float,
    assumed: Assumptions,
) -> Estimate:
    # In the high estimate, a write's whole cost counts in both places.
    write_application = write * min(1 - assumed.servers_of_write + (assumed is HIGH), 1)
    application = assumed.either_way * (load.reads * read_application + load.writes * write_application)
    # The benchmark does not divide the servers' time, so all of it counts for Postgres, and that of reads for Redis.
    redis = assumed.either_way * load.reads * read_servers
    postgres = redis + assumed.either_way * load.writes * write * assumed.servers_of_write
    application, redis, postgres = (cores / _USED_SHARE for cores in (application, redis, postgres))
    tasks = max(math.ceil(application), 1)
    activities = load.writes / _PEAK * _DAY * load.retention_days
    data = assumed.either_way * (load.users * STORED_BYTES["user"] + activities * STORED_BYTES["activity"])
    feeds = min(load.reads * _FEED_READS * _FEED_SECONDS, load.users)
    cached = load.users * assumed.cached_users * CACHED_BYTES["user"] + feeds * feed_bytes
    memory = data * assumed.hot_data
    # Each task of the access service uses one more, for LISTEN.
    connections = tasks * _POOL_SIZE + _ACCESS_TASKS * (_POOL_SIZE + 1)
    return Estimate(
        application_cores=application,
        application_tasks=tasks,
        postgres_cores=postgres,
        postgres_memory=memory,
        postgres_storage=max(data * assumed.storage, 20 * _GB),
        postgres_connections=connections,
        postgres_class=_postgres_class(postgres, memory, connections),
        redis_memory=cached * assumed.either_way,
        redis_cores=redis,
        redis_node=_redis_node(cached * assumed.either_way),
    )


def _postgres_class(cores: float, memory: float, connections: int) -> str | None:
    for each in _CLASSES:
        share = _BASELINE if each.startswith("db.t") else 1.0
        if (
            vcpus(each) * share >= cores
            and database_memory(each) * 0.75 >= memory
            and most_connections(each) >= connections
        ):
            return each
    return None


def _redis_node(memory: float) -> str | None:
    return next((each for each in _NODES if cache_memory(each) * _CACHE_SHARE >= memory), None)


def advice(load: Load, found: Sequence[Estimate]) -> list[str]:
    """Return notes on limits that the sizes exceed."""
    _, middle, high = found
    lines = []
    if middle.redis_cores > 1:
        lines.append(
            "Redis may need more than one core, but a server uses only one: docs/scaling.md, Redis Cluster"
        )
    elif high.redis_cores > 1:
        lines.append(
            "in the high estimate, Redis needs more than one core, but a server uses only one: docs/scaling.md"
        )
    if high.postgres_class is None:
        lines.append("in the high estimate, no RDS class is large enough: docs/scaling.md")
    limit = SharedSettings.app_connection_limit
    for found_in, each in (("", middle), ("in the high estimate, ", high)):
        if each.postgres_connections > limit:
            lines.append(
                f"{found_in}{each.postgres_connections} connections of {each.application_tasks} processes and"
                f" {_ACCESS_TASKS} access tasks exceed the default appConnectionLimit ({limit}): raise it with"
                " postgresMaxConnections, or use smaller pools (docs/scaling.md)"
            )
            break
    return lines
