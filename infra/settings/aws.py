"""The settings of a stack on AWS. infra.settings.aws_checks validates them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from infra.settings.declaration import AWS, setting
from infra.settings.shared import SharedSettings
from infra.spec import elasticache

_aws = partial(setting, only=AWS)


@dataclass(frozen=True, kw_only=True)
class AwsSettings:
    """The settings that have an effect only on target aws."""

    aws_region: str = _aws("", "Region, like eu-central-1; required on target aws.")
    aws_zones: str = _aws(
        "a,b,c", "Letters of the availability zones to use, two to four; add new ones at the end."
    )
    aws_vpc_cidr: str = _aws("10.60.0.0/16", "CIDR of the new VPC.")
    aws_vpc_id: str = _aws("", "Id of an existing VPC; empty: a new one is created.")
    aws_private_subnets: str = _aws(
        "", "Subnets of the existing VPC for tasks, at least two, like subnet-1,subnet-2."
    )
    aws_isolated_subnets: str = _aws(
        "",
        "Subnets of the existing VPC for Postgres and Redis, at least two, without a route to the internet.",
    )
    aws_route_tables: str = _aws(
        "", "Route tables of the existing VPC's private subnets, for the S3 endpoint."
    )
    aws_vpc_endpoints: bool = _aws(
        True, "Create VPC endpoints; false only if an existing VPC has them, or another route to AWS."
    )
    aws_postgres_class: str = _aws("db.t4g.medium", "Instance class of RDS.")
    aws_postgres_storage: str = _aws("50GB", "Storage of RDS (gp3), at least 20GB.")
    aws_postgres_max_storage: str = _aws(
        "200GB", "Limit for the automatic growth of the storage, at least 10 % above awsPostgresStorage."
    )
    aws_postgres_iops: int = _aws(
        0, "IOPS of gp3, 12000 or more, with 400GB of storage or more; 0: the baseline."
    )
    aws_postgres_throughput: int = _aws(
        0, "Throughput of gp3 in MiB/s, 500 to 4000, together with awsPostgresIops; 0: the baseline."
    )
    aws_postgres_multi_az: bool = _aws(True, "Keep a standby of Postgres in another zone.")
    aws_postgres_snapshot: str = _aws(
        "",
        "Name or ARN of the snapshot from which a new instance is created; empty: a new database. No effect on an"
        " existing instance (docs/aws-operations.md#from-a-snapshot).",
    )
    aws_backup_retention_days: int = _aws(14, "Days for which backups are kept, 7 to 35.")
    aws_backup_copy_key: str = _aws(
        "",
        "ARN of a KMS key in another region, to which RDS then copies backups; empty: no copies"
        " (docs/aws-operations.md#copies-of-backups).",
    )
    aws_backup_window: str = _aws(
        "02:00-03:00", "Daily window for backups and snapshots (UTC), at least an hour."
    )
    aws_maintenance_window: str = _aws(
        "sun:03:30-sun:04:30",
        "Weekly window for updates by AWS (UTC), at least an hour, not overlapping awsBackupWindow.",
    )
    aws_minor_upgrades: bool = _aws(
        True, "Install minor versions of Postgres and Redis in awsMaintenanceWindow, when AWS offers them."
    )
    aws_monitoring_seconds: int = _aws(
        60, "Interval of RDS's enhanced monitoring in seconds: 1, 5, 10, 15, 30 or 60."
    )
    aws_insights_days: int = _aws(
        7, "Days for which Database Insights keeps data: 7, a multiple of 31 up to 713, or 731."
    )
    aws_database_insights: str = _aws(
        "standard",
        "Mode of CloudWatch Database Insights: standard, or advanced, which needs awsInsightsDays of 465 or more.",
    )
    aws_redis_engine: str = _aws(
        elasticache.DEFAULT_ENGINE,
        f"Engine of ElastiCache: {', '.join(elasticache.ENGINES)} (docs/aws.md#valkey).",
    )
    aws_redis_node_type: str = _aws("cache.t4g.small", "Node type of ElastiCache.")
    aws_redis_nodes: int = _aws(
        2,
        "Number of Redis nodes, 1 to 6: the primary and its replicas. With redisReplicas 2, at least 3 are made.",
    )
    aws_redis_failover: bool = _aws(
        True, "Let a replica in another zone take over if the primary fails; needs at least two nodes."
    )
    aws_redis_reserved_percent: int = _aws(
        25, "Percentage of a node's memory that is not used for data (reserved-memory-percent), 25 to 75."
    )
    aws_redis_snapshot_days: int = _aws(7, "Days for which daily snapshots of Redis are kept, 1 to 35.")
    aws_access_count: int = _aws(2, "Number of tasks of the access service.")
    aws_access_cpu: int = _aws(256, "CPU units of an access task: 256, 512, 1024, 2048 or 4096.")
    aws_access_memory: str = _aws(
        "512MB", "Memory of an access task; Fargate's choices depend on awsAccessCpu."
    )
    aws_access_architecture: str = _aws("amd64", "CPU architecture of the tasks: amd64 or arm64.")
    aws_access_image: str = _aws(
        "",
        "Access image in ECR, like REPOSITORY@sha256:...; empty: the local engine builds and pushes it.",
    )
    aws_permissions_boundary: str = _aws(
        "",
        "Name of the IAM policy that is the permissions boundary of every role; empty: none (docs/aws-operations.md).",
    )
    aws_rds_ca_file: str = _aws(
        "", "PEM file with RDS's certificate authorities; empty: downloaded from AWS."
    )
    aws_log_retention_days: int = _aws(
        30, "Days for which logs are kept; one of the periods that CloudWatch Logs offers."
    )
    aws_alarm_email: str = _aws("", "Email address for alarms; AWS asks it to confirm the subscription.")
    aws_alarm_topic: str = _aws(
        "",
        "ARN of an SNS topic of the stack's account for alarms and events, not encrypted; empty: new ones are created.",
    )

    @property
    def aws_backup_copy_region(self) -> str | None:
        """Return the region of awsBackupCopyKey, or None."""
        return self.aws_backup_copy_key.split(":")[3] if self.aws_backup_copy_key else None

    @property
    def aws_zone_names(self) -> list[str]:
        """Return awsZones with the region: eu-central-1a, ..."""
        return [f"{self.aws_region}{letter}" for letter in items(self.aws_zones)]


@dataclass(frozen=True, kw_only=True)
class AwsTargetSettings(AwsSettings, SharedSettings):
    """All settings that have an effect on target aws."""

    @property
    def aws_redis_node_count(self) -> int:
        """Return the number of Redis nodes: awsRedisNodes, but at least those of redisReplicas and the primary."""
        return max(self.aws_redis_nodes, self.redis_replicas + 1)


def items(text: str) -> list[str]:
    """Split a setting that is a comma-separated list."""
    return [item.strip() for item in text.split(",") if item.strip()]
