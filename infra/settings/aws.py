"""The settings of a stack on AWS; infra.settings.aws_checks validates them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from infra.settings.declaration import AWS, setting

_aws = partial(setting, only=AWS)


@dataclass(frozen=True, kw_only=True)
class AwsSettings:
    """What only the target aws renders."""

    aws_region: str = _aws("", "Region, like eu-central-1; target aws needs it.")
    aws_zones: str = _aws("a,b,c", "Availability zones of the region by letter, two or more.")
    aws_vpc_cidr: str = _aws("10.60.0.0/16", "Addresses of the VPC that is made.")
    aws_vpc_id: str = _aws("", "An existing VPC; empty: one is made.")
    aws_private_subnets: str = _aws(
        "", "Subnets of the existing VPC for tasks, like subnet-1,subnet-2, two or more."
    )
    aws_isolated_subnets: str = _aws(
        "", "Subnets of the existing VPC for Postgres and Redis, two or more, with no route out."
    )
    aws_route_tables: str = _aws("", "Route tables of the existing VPC's private subnets, for the way to S3.")
    aws_vpc_endpoints: bool = _aws(
        True, "Make VPC endpoints; false only where an existing VPC has them or another way to AWS."
    )
    aws_postgres_class: str = _aws("db.t4g.medium", "Instance class of RDS.")
    aws_postgres_storage: str = _aws("50GB", "Storage of RDS (gp3), 20GB at least.")
    aws_postgres_max_storage: str = _aws(
        "200GB", "How far RDS grows its storage by itself: a tenth more than awsPostgresStorage at least."
    )
    aws_postgres_iops: int = _aws(
        0, "IOPS of gp3 above its baseline of 3000, from 12000 and from 400GB on; 0: the baseline."
    )
    aws_postgres_multi_az: bool = _aws(True, "Keep a standby of Postgres in another zone.")
    aws_postgres_replicas: int = _aws(
        0,
        "Read replicas of Postgres, 0 to 5; with any, RDS keeps no password for the administrator (docs/aws.md).",
    )
    aws_backup_retention_days: int = _aws(14, "Days that Postgres can be restored to, 7 to 35.")
    aws_backup_window: str = _aws(
        "02:00-03:00", "When backups and snapshots are taken (UTC), an hour or more."
    )
    aws_maintenance_window: str = _aws(
        "sun:03:30-sun:04:30", "When AWS applies updates (UTC), an hour or more, apart from awsBackupWindow."
    )
    aws_monitoring_seconds: int = _aws(60, "How often RDS's enhanced monitoring measures: 1 to 60 seconds.")
    aws_insights_days: int = _aws(
        7, "Days that Performance Insights keeps: 7, a multiple of 31 up to 713, or 731."
    )
    aws_redis_node_type: str = _aws("cache.t4g.small", "Node type of ElastiCache.")
    aws_redis_nodes: int = _aws(2, "Nodes of Redis: the primary and its replicas, 1 to 6.")
    aws_redis_failover: bool = _aws(
        True, "Let a replica in another zone take over where the primary fails; needs two nodes."
    )
    aws_redis_reserved_percent: int = _aws(
        25, "Share of a node's memory that is not for data: reserved-memory-percent, 25 to 75."
    )
    aws_redis_snapshot_days: int = _aws(7, "Days that daily snapshots of Redis are kept, 1 to 35.")
    aws_access_count: int = _aws(2, "Tasks of the access service.")
    aws_access_cpu: int = _aws(256, "CPU units of an access task: 256, 512, 1024, 2048 or 4096.")
    aws_access_memory: str = _aws("512MB", "Memory of an access task, as Fargate allows for awsAccessCpu.")
    aws_access_architecture: str = _aws("amd64", "What tasks run on: amd64 or arm64.")
    aws_access_image: str = _aws(
        "",
        "Access image in ECR by digest, like REPOSITORY@sha256:...; empty: built by the local engine, and pushed.",
    )
    aws_rds_ca_file: str = _aws(
        "", "File with RDS's certificate authorities, PEM; empty: downloaded from AWS, and kept."
    )
    aws_log_retention_days: int = _aws(30, "Days that log groups keep, as CloudWatch Logs allows.")
    aws_alarm_email: str = _aws("", "Address that alarms are sent to; it has to confirm.")
    aws_alarm_topic: str = _aws("", "ARN of an SNS topic for alarms; empty: one is made.")

    @property
    def aws_zone_names(self) -> list[str]:
        """awsZones with the region: eu-central-1a, ..."""
        return [f"{self.aws_region}{letter}" for letter in items(self.aws_zones)]


def items(text: str) -> list[str]:
    """The items of a setting that is a list in one text."""
    return [item.strip() for item in text.split(",") if item.strip()]
