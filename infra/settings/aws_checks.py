"""Checks for settings that AWS would reject, or accept and ignore. They run before any resource is created."""

from __future__ import annotations

import re

from infra.settings import aws_network_checks
from infra.settings.aws import AwsTargetSettings
from infra.settings.checks import require_bytes, require_match, require_one_of, require_range
from infra.settings.declaration import full
from infra.spec import aws_sizes, elasticache, rds
from infra.spec.errors import SettingError
from infra.spec.quantity import parse_bytes

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_WEEK_MINUTES = 7 * 24 * 60
# gp3: at most 0.25 MiB/s for each IOPS.
_IOPS_PER_THROUGHPUT = 4
_ADVANCED_DAYS = 465


def check(settings: AwsTargetSettings) -> None:
    """Raise SettingError for the first setting that is not valid on AWS."""
    aws_network_checks.check(settings)
    _check_postgres(settings)
    _check_connections(settings)
    _check_parameters(settings)
    _check_redis(settings)
    _check_windows(settings)
    _check_access(settings)
    _check_alarms(settings)
    if settings.aws_permissions_boundary:
        require_match(
            "awsPermissionsBoundary",
            settings.aws_permissions_boundary,
            r"[A-Za-z0-9+=,.@_-][A-Za-z0-9+=,.@_/-]{0,511}",
            "name of an IAM policy",
            "ci-groundwork-boundary-staging, without the part before policy/",
        )


def _check_postgres(settings: AwsTargetSettings) -> None:
    require_one_of("awsPostgresClass", settings.aws_postgres_class, tuple(aws_sizes.DATABASE_CLASSES))
    storage = require_bytes("awsPostgresStorage", settings.aws_postgres_storage, rds.LEAST_STORAGE)
    most = require_bytes("awsPostgresMaxStorage", settings.aws_postgres_max_storage, rds.LEAST_STORAGE)
    for key, amount in (("awsPostgresStorage", storage), ("awsPostgresMaxStorage", most)):
        if amount % parse_bytes("1GB") or amount > parse_bytes(rds.MOST_STORAGE):
            raise SettingError(
                full(key),
                "RDS accepts only whole gigabytes, and at most 65536GB",
                f"write it like 50GB, at least {rds.LEAST_STORAGE}",
            )
    if most * 10 < storage * 11:
        raise SettingError(
            full("awsPostgresMaxStorage"),
            f"{settings.aws_postgres_max_storage} is too close to awsPostgresStorage"
            f" ({settings.aws_postgres_storage}): RDS requires at least 10 % more",
            f"raise it to {-(-storage * 11 // 10 // parse_bytes('1GB'))}GB or more",
        )
    if settings.aws_postgres_iops:
        require_range("awsPostgresIops", settings.aws_postgres_iops, 12_000, 64_000, "or 0 for the baseline")
        if storage < parse_bytes(rds.IOPS_STORAGE):
            raise SettingError(
                full("awsPostgresIops"),
                f"gp3 storage of {settings.aws_postgres_storage} cannot have more than the baseline",
                f"set it to 0, or {full('awsPostgresStorage')} to {rds.IOPS_STORAGE} or more",
            )
    throughput = settings.aws_postgres_throughput
    if throughput:
        require_range("awsPostgresThroughput", throughput, 500, 4000, "or 0 for the baseline")
        least = throughput * _IOPS_PER_THROUGHPUT
        if settings.aws_postgres_iops < least:
            raise SettingError(
                full("awsPostgresThroughput"),
                f"{throughput} MiB/s need at least {least} IOPS",
                f"set {full('awsPostgresIops')} to {max(least, 12_000)} or more, or this to 0",
            )
    require_range("postgresReplicas", settings.postgres_replicas, 0, 5)
    require_range("awsBackupRetentionDays", settings.aws_backup_retention_days, 7, 35)
    if settings.aws_postgres_snapshot:
        require_match(
            "awsPostgresSnapshot",
            settings.aws_postgres_snapshot,
            # Names of automated snapshots begin with rds:.
            rf"(arn:aws[a-z-]*:rds:{settings.aws_region}:[0-9]{{12}}:snapshot:)?(rds:)?[A-Za-z](-?[A-Za-z0-9])*",
            f"snapshot in {settings.aws_region}",
            "groundwork-prod-final (copy a snapshot of another region first)",
        )
    _check_backup_copies(settings)
    seconds = settings.aws_monitoring_seconds
    if seconds not in aws_sizes.MONITORING_SECONDS:
        raise _not_offered("awsMonitoringSeconds", seconds, aws_sizes.MONITORING_SECONDS)
    days = settings.aws_insights_days
    if days not in (7, 731) and (days % 31 or not 31 <= days <= 713):
        raise SettingError(
            full("awsInsightsDays"),
            f"Database Insights does not keep {days} days",
            "use 7, a multiple of 31 up to 713, or 731",
        )
    require_one_of("awsDatabaseInsights", settings.aws_database_insights, ("standard", "advanced"))
    if settings.aws_database_insights == "advanced" and days < _ADVANCED_DAYS:
        raise SettingError(
            full("awsDatabaseInsights"),
            f"advanced mode keeps data for at least {_ADVANCED_DAYS} days, and {full('awsInsightsDays')} is {days}",
            f"set {full('awsInsightsDays')} to {_ADVANCED_DAYS} or more, or this to standard",
        )


def _check_backup_copies(settings: AwsTargetSettings) -> None:
    if not (key := settings.aws_backup_copy_key):
        return
    require_match(
        "awsBackupCopyKey",
        key,
        # Not the ARN of an alias: RDS returns the key's ARN, so every refresh would show a difference.
        r"arn:aws[a-z-]*:kms:[a-z]{2}(-[a-z]+)+-[0-9]:[0-9]{12}:key/[0-9a-z-]{8,64}",
        "ARN of a KMS key",
        "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-0123-0123-0123-0123456789ab",
    )
    if settings.aws_backup_copy_region == settings.aws_region:
        raise SettingError(
            full("awsBackupCopyKey"),
            f"the key is in {settings.aws_region}, the region of the stack",
            "set it to a key in another region, or remove it",
        )


def _check_connections(settings: AwsTargetSettings) -> None:
    most = aws_sizes.most_connections(settings.aws_postgres_class)
    if settings.postgres_max_connections > most:
        raise SettingError(
            full("postgresMaxConnections"),
            f"{settings.postgres_max_connections} connections need more memory than"
            f" {settings.aws_postgres_class} has (maximum: {most})",
            f"lower it to {most} or less, or set a larger {full('awsPostgresClass')}",
        )
    # Each task uses one connection in addition to its pool, for LISTEN.
    wanted = settings.aws_access_count * (settings.access_pool_size + 1)
    if wanted > settings.app_connection_limit:
        limit = settings.app_connection_limit
        # A pool needs at least one connection.
        smaller = limit // settings.aws_access_count - 1
        lower = f"lower it to {smaller}, or" if smaller >= 1 else "no pool size fits;"
        raise SettingError(
            full("accessPoolSize"),
            f"{settings.aws_access_count} tasks with {settings.access_pool_size} + 1 connections each are"
            f" {wanted}, more than the connection limit of role app ({limit});"
            f" {settings.aws_postgres_class} allows {most} in total",
            f"{lower} raise {full('appConnectionLimit')} or lower {full('awsAccessCount')}",
        )


def _check_parameters(settings: AwsTargetSettings) -> None:
    for name, value in settings.postgres_parameters.items():
        if name in rds.REFUSED_PARAMETERS:
            raise SettingError(
                full("postgresParameters"),
                f"{name} cannot be set on RDS",
                "remove it; docs/aws.md lists the parameters that RDS sets itself",
            )
        try:
            rds.unitless(name, value)
        except ValueError as error:
            raise SettingError(
                full("postgresParameters"),
                f"{name} is {value!r}, but RDS accepts only numbers without a unit",
                str(error),
            ) from error


def _check_redis(settings: AwsTargetSettings) -> None:
    if settings.redis_persistence == "aof":
        raise SettingError(
            full("redisPersistence"),
            "ElastiCache does not support append-only files in Redis 7",
            f"use none, or rdb with {full('awsRedisSnapshotDays')}; replicas keep the data when a node fails",
        )
    require_one_of("awsRedisEngine", settings.aws_redis_engine, tuple(elasticache.ENGINES))
    require_one_of("awsRedisNodeType", settings.aws_redis_node_type, tuple(aws_sizes.CACHE_NODES))
    require_range("awsRedisNodes", settings.aws_redis_nodes, 1, 6)
    if settings.aws_redis_failover and settings.aws_redis_node_count < 2:
        raise SettingError(
            full("awsRedisFailover"),
            "with one node there is no replica to take over",
            f"set it to false, or {full('awsRedisNodes')} to 2 or more",
        )
    _check_fence(settings)
    require_range("awsRedisReservedPercent", settings.aws_redis_reserved_percent, 25, 75)
    require_range("awsRedisSnapshotDays", settings.aws_redis_snapshot_days, 1, 35)


def _check_fence(settings: AwsTargetSettings) -> None:
    """Check redisReplicas, with which a primary that has no replica refuses writes."""
    key = full("redisReplicas")
    if settings.redis_replicas not in (0, elasticache.FENCED_REPLICAS):
        raise SettingError(
            key,
            f"{settings.redis_replicas} is not supported; with one replica, its loss would stop all writes",
            f"set it to 0 or {elasticache.FENCED_REPLICAS}; for more nodes set {full('awsRedisNodes')}",
        )
    if settings.redis_replicas and not settings.aws_redis_failover:
        raise SettingError(
            full("awsRedisFailover"),
            f"{key} needs a replica that takes over",
            f"set it to true, or {key} to 0",
        )


def _check_windows(settings: AwsTargetSettings) -> None:
    key, text = "awsBackupWindow", settings.aws_backup_window
    require_match(key, text, f"{_CLOCK}-{_CLOCK}", "daily window", "02:00-03:00")
    begin, end = (_minutes(part) for part in text.split("-"))
    backup = (begin, (end - begin) % (24 * 60))
    _require_hour(key, text, backup[1])
    key, text = "awsMaintenanceWindow", settings.aws_maintenance_window
    day = f"({'|'.join(_DAYS)}):{_CLOCK}"
    require_match(key, text, f"{day}-{day}", "weekly window", "sun:03:30-sun:04:30")
    first, last = text.split("-")
    start = _DAYS.index(first[:3]) * 24 * 60 + _minutes(first[4:])
    stop = _DAYS.index(last[:3]) * 24 * 60 + _minutes(last[4:])
    length = (stop - start) % _WEEK_MINUTES
    _require_hour(key, text, length)
    if length > 24 * 60:
        raise SettingError(full(key), f"{text} is longer than a day", "write it like sun:03:30-sun:04:30")
    for weekday in range(7):
        other = weekday * 24 * 60 + backup[0]
        if (other - start) % _WEEK_MINUTES < length or (start - other) % _WEEK_MINUTES < backup[1]:
            raise SettingError(
                full(key),
                f"{text} overlaps {full('awsBackupWindow')} ({settings.aws_backup_window})",
                "move one of them",
            )


def _check_access(settings: AwsTargetSettings) -> None:
    require_range("awsAccessCount", settings.aws_access_count, 1, 100)
    if settings.aws_access_cpu not in aws_sizes.FARGATE:
        raise _not_offered("awsAccessCpu", settings.aws_access_cpu, tuple(aws_sizes.FARGATE))
    memory = require_bytes("awsAccessMemory", settings.aws_access_memory, "512MB")
    offered = aws_sizes.FARGATE[settings.aws_access_cpu]
    if memory % 1024**2 or memory // 1024**2 not in offered:
        raise SettingError(
            full("awsAccessMemory"),
            f"Fargate does not offer {settings.aws_access_memory} with {settings.aws_access_cpu} CPU units",
            f"use one of {', '.join(f'{mib}MB' for mib in offered)}",
        )
    require_one_of("awsAccessArchitecture", settings.aws_access_architecture, ("amd64", "arm64"))
    if settings.aws_access_image:
        require_match(
            "awsAccessImage",
            settings.aws_access_image,
            rf"[0-9]{{12}}\.dkr\.ecr\.{settings.aws_region}\.amazonaws\.com/[a-z0-9._/-]+@sha256:[0-9a-f]{{64}}",
            "image in the region's ECR with its digest",
            f"123456789012.dkr.ecr.{settings.aws_region}.amazonaws.com/access@sha256:0123..."
            " (a tag can move to another image, and tasks cannot reach other registries)",
        )
    if settings.aws_log_retention_days not in aws_sizes.LOG_RETENTION_DAYS:
        raise _not_offered(
            "awsLogRetentionDays", settings.aws_log_retention_days, aws_sizes.LOG_RETENTION_DAYS
        )


def _check_alarms(settings: AwsTargetSettings) -> None:
    if settings.aws_alarm_email and settings.aws_alarm_topic:
        raise SettingError(
            full("awsAlarmEmail"),
            f"{full('awsAlarmTopic')} is set too, and that topic has its own subscribers",
            "remove one of the two",
        )
    if settings.aws_alarm_email:
        require_match(
            "awsAlarmEmail",
            settings.aws_alarm_email,
            r"[^@\s]+@[^@\s]+\.[^@\s]+",
            "address",
            "ops@example.com",
        )
    if settings.aws_alarm_topic:
        require_match(
            "awsAlarmTopic",
            settings.aws_alarm_topic,
            # CloudWatch cannot publish to a topic in another region.
            rf"arn:aws[a-z-]*:sns:{settings.aws_region}:[0-9]{{12}}:[A-Za-z0-9_-]+",
            f"ARN of a topic in {settings.aws_region}",
            f"arn:aws:sns:{settings.aws_region}:123456789012:alarms",
        )


def _not_offered(key: str, value: int, offered: tuple[int, ...]) -> SettingError:
    near = min(offered, key=lambda number: abs(number - value))
    return SettingError(
        full(key), f"AWS does not offer {value}", f"use {near}, or another of {', '.join(map(str, offered))}"
    )


def _minutes(clock: str) -> int:
    match = re.fullmatch(_CLOCK, clock)
    assert match is not None
    return int(match[1]) * 60 + int(match[2])


def _require_hour(key: str, text: str, minutes: int) -> None:
    if minutes < 60:
        raise SettingError(full(key), f"{text} is shorter than an hour", "make it an hour or longer")
