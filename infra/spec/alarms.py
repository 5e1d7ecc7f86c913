"""The metrics that are watched on AWS, with their thresholds. Alarms and dashboard are rendered from this data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.spec import access, aws_sizes

ABOVE, BELOW = "GreaterThanThreshold", "LessThanThreshold"
# The CONNECTION LIMIT of a role or database, max_connections, and its reserve for superusers. `?` means "or".
_REFUSED_LOGIN = '?"too many connections for" ?"too many clients already" ?"connection slots are reserved"'


@dataclass(frozen=True)
class LogLines:
    """The lines of a log that match a pattern of CloudWatch Logs. A metric filter counts them."""

    # Key of AlarmsArgs.logs.
    log: str
    pattern: str


@dataclass(frozen=True)
class Alarm:
    """A metric's threshold over `minutes`, with a description (`what`) that says what to do.

    `seconds` is the metric's interval. `minutes` is a multiple of it.

    `missing` is CloudWatch's treatment of missing data: `breaching` if missing data means a fault, `notBreaching` if it
    means that there is nothing to measure.

    `lines` are what the metric counts, if it is not a metric of AWS.
    """

    name: str
    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]
    comparison: str
    threshold: float
    what: str
    minutes: int = 5
    statistic: str = "Average"
    missing: str = "missing"
    seconds: int = 60
    lines: LogLines | None = None

    @property
    def periods(self) -> int:
        """Return how many values in a row must be beyond the threshold."""
        return self.minutes * 60 // self.seconds


def postgres_alarms(
    *,
    primary: str,
    replicas: Sequence[str],
    instance_class: str,
    storage_bytes: int,
    connections: int,
    namespace: str,
) -> Iterator[Alarm]:
    """Yield the alarms of the primary and of each replica, which are given by their RDS identifiers.

    `connections` is the sum of the roles' CONNECTION LIMITs, which is less than max_connections. `namespace` is that of
    the stack's own metrics.
    """
    memory = aws_sizes.database_memory(instance_class)
    for instance in (primary, *replicas):
        of = (("DBInstanceIdentifier", instance),)
        suffix = instance.removeprefix(primary).removeprefix("-") or "primary"

        def alarm(
            name: str,
            metric: str,
            comparison: str,
            threshold: float,
            what: str,
            minutes: int = 15,
            seconds: int = 60,
            missing: str = "missing",
            of: tuple[tuple[str, str], ...] = of,
            suffix: str = suffix,
        ) -> Alarm:
            return Alarm(
                name=f"postgres-{suffix}-{name}",
                namespace="AWS/RDS",
                metric=metric,
                dimensions=of,
                comparison=comparison,
                threshold=threshold,
                what=what,
                minutes=minutes,
                seconds=seconds,
                missing=missing,
            )

        yield alarm(
            "cpu",
            "CPUUtilization",
            ABOVE,
            80,
            "CPU usage is above 80 %: check CloudWatch Database Insights, or use a larger instance class",
        )
        yield alarm(
            "storage",
            "FreeStorageSpace",
            BELOW,
            # RDS enlarges the storage when less than a tenth of it has been free for five minutes, but not within some
            # hours of the last time, while it still optimizes the storage. It sends events if it cannot.
            storage_bytes // 20,
            "free storage is below 5 % of awsPostgresStorage: the storage has reached awsPostgresMaxStorage, or RDS has"
            " enlarged it in the last hours and waits; raise awsPostgresMaxStorage, or drop old partitions",
            minutes=5,
        )
        yield alarm(
            "connections",
            "DatabaseConnections",
            ABOVE,
            connections * 8 // 10,
            "more than 80 % of the roles' connection limits together are in use: fix connection leaks, or raise the"
            " limits",
            minutes=5,
        )
        # RDS has no metric of each role's connections, and one role can be at its limit while the sum is low.
        yield Alarm(
            name=f"postgres-{suffix}-refused-logins",
            namespace=namespace,
            metric=f"postgres-{suffix}-refused-logins",
            dimensions=(),
            comparison=ABOVE,
            threshold=0,
            what="logins were refused because a connection limit is reached: the log of the instance names the role;"
            " fix connection leaks, or raise its limit",
            minutes=5,
            seconds=300,
            statistic="Sum",
            missing="notBreaching",
            lines=LogLines(instance, _REFUSED_LOGIN),
        )
        yield alarm(
            "memory",
            "FreeableMemory",
            BELOW,
            memory // 20,
            "less than 5 % of the memory is free: use a larger instance class",
        )
        if aws_sizes.is_burstable(instance_class):
            yield alarm(
                "cpu-credits",
                "CPUCreditBalance",
                BELOW,
                10,
                "the burst credits of the CPU are used up, so it is slower or costs more: use a class without bursts",
                minutes=60,
                seconds=300,
            )
        for name, metric in (("ebs-requests", "EBSIOBalance%"), ("ebs-bytes", "EBSByteBalance%")):
            yield alarm(
                name,
                metric,
                BELOW,
                20,
                "less than 20 % of the burst credits for storage are left, after which it slows down: use a larger"
                " instance class",
                seconds=300,
                # Only classes that can burst report it.
                missing="notBreaching",
            )
        if instance == primary:
            yield alarm(
                "wraparound",
                "MaximumUsedTransactionIDs",
                ABOVE,
                # At two billion the server stops writing. `doctor` and the rule WraparoundNear warn at this number.
                500_000_000,
                "more than 500 million transaction ids are in use: find what blocks autovacuum (`groundwork doctor`)",
            )
        else:
            yield alarm(
                "lag",
                "ReplicaLag",
                ABOVE,
                60,
                "the replica lags its primary by more than a minute",
                minutes=5,
            )


def redis_alarms(*, nodes: Sequence[str], node_type: str, eviction_policy: str) -> Iterator[Alarm]:
    """Yield the alarms of each node, which is given by its ElastiCache id."""
    for node in nodes:
        of = (("CacheClusterId", node),)
        suffix = node.rpartition("-")[2]
        for name, metric, comparison, threshold, minutes, what in (
            (
                "cpu",
                "EngineCPUUtilization",
                ABOVE,
                80,
                15,
                "CPU usage of the Redis thread is above 80 %: use a larger node type",
            ),
            # Redis has one thread. TLS and the operating system can use up the node's other CPUs.
            (
                "host-cpu",
                "CPUUtilization",
                ABOVE,
                90,
                15,
                "CPU usage of the node is above 90 %: use a larger node type",
            ),
            (
                "evictions",
                "Evictions",
                ABOVE,
                1000,
                15,
                "more than 1000 evictions a minute, so the cache is too small for what is read: see the hit rate first,"
                " and use a larger node type if it falls",
            ),
            (
                "connections",
                "CurrConnections",
                ABOVE,
                10_000,
                5,
                "more than 10000 connections: look for a connection leak in the clients",
            ),
            (
                "lag",
                "ReplicationLag",
                ABOVE,
                10,
                5,
                "a replica lags by more than 10 seconds: a failover now would lose the writes of that time",
            ),
        ):
            yield Alarm(
                name=f"redis-{suffix}-{name}",
                namespace="AWS/ElastiCache",
                metric=metric,
                dimensions=of,
                comparison=comparison,
                threshold=threshold,
                what=what,
                minutes=minutes,
            )
        # A full cache evicts entries, which is normal. Without eviction it rejects writes.
        if eviction_policy == "noeviction":
            yield Alarm(
                name=f"redis-{suffix}-memory",
                namespace="AWS/ElastiCache",
                metric="DatabaseMemoryUsagePercentage",
                dimensions=of,
                comparison=ABOVE,
                threshold=90,
                what="memory usage is above 90 %, and a full Redis rejects writes: use a larger node type, or allow"
                " eviction (redisEvictionPolicy)",
                minutes=15,
            )
        if aws_sizes.is_burstable(node_type):
            yield Alarm(
                name=f"redis-{suffix}-cpu-credits",
                namespace="AWS/ElastiCache",
                metric="CPUCreditBalance",
                dimensions=of,
                comparison=BELOW,
                threshold=10,
                what="the burst credits of the CPU are used up, so the node is slow: use a type that is not burstable",
                minutes=60,
                seconds=300,
            )
        yield Alarm(
            name=f"redis-{suffix}-hit-rate",
            namespace="AWS/ElastiCache",
            metric="CacheHitRate",
            dimensions=of,
            comparison=BELOW,
            threshold=50,
            what="more than half of the reads miss the cache: `groundwork cache stats` shows which entries",
            minutes=60,
            # Without reads there is no hit rate.
            missing="notBreaching",
        )


def access_alarms(*, cluster: str, service: str, count: int, namespace: str) -> Iterator[Alarm]:
    """Yield the alarms of the access service's tasks. `namespace` is that of the stack's own metrics."""
    yield Alarm(
        name="access-tasks",
        namespace="ECS/ContainerInsights",
        metric="RunningTaskCount",
        dimensions=(("ClusterName", cluster), ("ServiceName", service)),
        comparison=BELOW,
        threshold=count,
        what="fewer access tasks are running than configured: see their log",
        minutes=10,
        statistic="Minimum",
        missing="breaching",
    )
    # ECS replaces a task that is not ready, so that enough tasks are running in most minutes.
    yield Alarm(
        name="access-ready",
        namespace=namespace,
        metric="access-not-ready",
        dimensions=(),
        comparison=ABOVE,
        threshold=0,
        what="access tasks are not ready, so cached entries may be stale: `failed` in their log has the reasons",
        # Three values, because the log has no line while ECS replaces the task.
        minutes=15,
        seconds=300,
        statistic="Sum",
        missing="notBreaching",
        lines=LogLines("access", f'{{ $.message = "{access.NOT_READY}" }}'),
    )
