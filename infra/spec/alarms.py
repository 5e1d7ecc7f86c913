"""What is watched on AWS and from where on it is an alarm: plain data, of which alarms and dashboard are rendered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.spec import aws_sizes

ABOVE, BELOW = "GreaterThanThreshold", "LessThanThreshold"


@dataclass(frozen=True)
class Alarm:
    """A metric's bound over `minutes`, and what to do when it is passed.

    `missing` says what silence means: breaching where silence is the fault, notBreaching where it is rest.
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


def postgres_alarms(
    *, primary: str, replicas: Sequence[str], instance_class: str, storage_bytes: int, max_connections: int
) -> Iterator[Alarm]:
    """Of the primary and of each replica, by RDS's identifiers."""
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
            of: tuple[tuple[str, str], ...] = of,
            suffix: str = suffix,
        ) -> Alarm:
            return Alarm(
                f"postgres-{suffix}-{name}", "AWS/RDS", metric, of, comparison, threshold, what, minutes
            )

        yield alarm(
            "cpu",
            "CPUUtilization",
            ABOVE,
            80,
            "CPU above 80 %: see Performance Insights, or take a larger class",
        )
        yield alarm(
            "storage",
            "FreeStorageSpace",
            BELOW,
            storage_bytes // 10,
            "less than a tenth of the storage is free: raise awsPostgresMaxStorage, or drop old partitions",
            5,
        )
        yield alarm(
            "connections",
            "DatabaseConnections",
            ABOVE,
            max_connections * 8 // 10,
            "more than 80 % of max_connections: close what leaks them, or raise postgresMaxConnections",
            5,
        )
        yield alarm(
            "memory",
            "FreeableMemory",
            BELOW,
            memory // 20,
            "less than 5 % of memory is free: take a larger class",
        )
        if instance == primary:
            yield alarm(
                "wraparound",
                "MaximumUsedTransactionIDs",
                ABOVE,
                1_000_000_000,
                "a billion transaction ids in use: find what holds autovacuum back (`groundwork doctor`)",
            )
        else:
            yield alarm("lag", "ReplicaLag", ABOVE, 60, "the replica is a minute behind its primary", 5)


def redis_alarms(*, nodes: Sequence[str]) -> Iterator[Alarm]:
    """Of each node, by ElastiCache's ids."""
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
                "the engine's thread above 80 %: take a larger node",
            ),
            # The engine has one thread: a node with two CPUs may be full beside it, with TLS and the system's work.
            ("host-cpu", "CPUUtilization", ABOVE, 90, 15, "the node's CPUs above 90 %: take a larger node"),
            (
                "memory",
                "DatabaseMemoryUsagePercentage",
                ABOVE,
                90,
                15,
                "memory above 90 %: take a larger node",
            ),
            (
                "evictions",
                "Evictions",
                ABOVE,
                1000,
                15,
                "more than a thousand evictions a minute: entries leave before they are read again",
            ),
            (
                "connections",
                "CurrConnections",
                ABOVE,
                10_000,
                5,
                "more than 10000 connections: something leaks them",
            ),
            (
                "lag",
                "ReplicationLag",
                ABOVE,
                10,
                5,
                "a replica is ten seconds behind: a failover would lose that",
            ),
        ):
            yield Alarm(
                f"redis-{suffix}-{name}", "AWS/ElastiCache", metric, of, comparison, threshold, what, minutes
            )
        yield Alarm(
            f"redis-{suffix}-hit-rate",
            "AWS/ElastiCache",
            "CacheHitRate",
            of,
            BELOW,
            50,
            "every second read misses: `groundwork cache stats` tells of what",
            60,
            # Without reads there is no rate.
            missing="notBreaching",
        )


def access_alarms(*, cluster: str, service: str, count: int) -> Iterator[Alarm]:
    """Of the access service's tasks."""
    yield Alarm(
        "access-tasks",
        "ECS/ContainerInsights",
        "RunningTaskCount",
        (("ClusterName", cluster), ("ServiceName", service)),
        BELOW,
        count,
        "fewer access tasks than wanted: their log says why",
        10,
        "Minimum",
        "breaching",
    )
