"""Postgres 15 on RDS: the primary and its read replicas, configured from the same specification as the container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.administrator import Administrator
from infra.aws.assumption import assumed_by
from infra.aws.encryption import EncryptionKey, KeyArgs
from infra.aws.logs import Logs
from infra.aws.site import AwsSite
from infra.aws.snapshot import Snapshot
from infra.spec import aws_sizes, rds
from infra.spec.quantity import parse_gib

# The authority of the server certificates. Clients trust AWS's whole bundle, so this value can change.
_AUTHORITY = "rds-ca-rsa2048-g1"
_MONITORING_POLICY = "service-role/AmazonRDSEnhancedMonitoringRole"


@dataclass(frozen=True)
class PostgresArgs:
    site: AwsSite
    subnets: Sequence[pulumi.Input[str]]
    security_group: pulumi.Input[str]
    logs: Logs


class Postgres(pulumi.ComponentResource):
    """The primary and its read replicas.

    `resource_id` and `resource_ids` are the ids that IAM policies contain. `admin_secret` is an ARN.
    """

    host: pulumi.Output[str]
    port: int
    identifier: pulumi.Output[str]
    resource_id: pulumi.Output[str]
    admin_secret: pulumi.Output[str]
    key: EncryptionKey
    parameter_group: pulumi.Output[str]
    replica_hosts: list[pulumi.Output[str]]
    replica_identifiers: list[pulumi.Output[str]]
    resource_ids: list[pulumi.Output[str]]
    # Identifier of an instance -> name of the log group of its server.
    log_groups: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Postgres", name, None, opts)
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        site, settings = args.site, args.site.settings
        self.key = EncryptionKey(
            "postgres", KeyArgs(site, "Postgres of this stack: storage, backups, password"), self._child
        )
        self._parameters = self._make_parameters()
        self.parameter_group = self._parameters.name
        self._monitoring = self._make_monitoring_role()
        self.log_groups = {}
        subnet_group = aws.rds.SubnetGroup(
            "postgres",
            name=site.name(),
            subnet_ids=list(args.subnets),
            description="Isolated subnets of this stack",
            tags=site.tags("postgres"),
            opts=self._child,
        )
        administrator = (
            Administrator.of_the_stack(site, self.key, self._child)
            if settings.postgres_replicas
            else Administrator.of_rds(self.key)
        )
        primary = self._make_primary(subnet_group, administrator)
        self._copy_backups(primary)
        replicas = [self._make_replica(primary, n + 1) for n in range(settings.postgres_replicas)]
        self.host, self.port = primary.address, rds.PORT
        self.identifier, self.resource_id = primary.identifier, primary.resource_id
        self.admin_secret = administrator.secret(primary)
        self.replica_hosts = [replica.address for replica in replicas]
        self.replica_identifiers = [replica.identifier for replica in replicas]
        # To log in to a replica, an IAM policy must contain that replica's id.
        self.resource_ids = [primary.resource_id, *(replica.resource_id for replica in replicas)]
        self.register_outputs({"host": self.host, "identifier": self.identifier})

    def _make_parameters(self) -> aws.rds.ParameterGroup:
        settings = self._args.site.settings
        parameters = rds.parameters(
            aws_sizes.database_memory(settings.aws_postgres_class),
            settings.postgres_max_connections,
            settings.postgres_parameters,
        )
        return aws.rds.ParameterGroup(
            "postgres",
            name=self._args.site.name(rds.FAMILY),
            family=rds.FAMILY,
            description="Rendered from infra/spec",
            parameters=[
                aws.rds.ParameterGroupParameterArgs(
                    name=parameter,
                    value=value,
                    apply_method=rds.apply_method(parameter, value),
                )
                for parameter, value in parameters.items()
            ],
            tags=self._args.site.tags("postgres"),
            opts=self._child,
        )

    def _make_monitoring_role(self) -> aws.iam.Role:
        site = self._args.site
        role = aws.iam.Role(
            "postgres-monitoring",
            name=site.name("postgres-monitoring"),
            description="Lets RDS write what enhanced monitoring measures",
            assume_role_policy=assumed_by("monitoring.rds.amazonaws.com", site),
            permissions_boundary=site.permissions_boundary,
            tags=site.tags("postgres-monitoring"),
            opts=self._child,
        )
        aws.iam.RolePolicyAttachment(
            "postgres-monitoring",
            role=role.name,
            policy_arn=site.partition.apply(
                lambda known: f"arn:{known}:iam::aws:policy/{_MONITORING_POLICY}"
            ),
            opts=self._child,
        )
        return role

    def _make_primary(
        self, subnet_group: aws.rds.SubnetGroup, administrator: Administrator
    ) -> aws.rds.Instance:
        site, settings = self._args.site, self._args.site.settings
        name = site.name()
        snapshot = Snapshot.for_new_instance(name, settings)
        return aws.rds.Instance(
            "postgres",
            **self._of_every_instance(
                # Both are decided when the instance is created. A change would replace it by an empty one.
                "postgres",
                name,
                pulumi.ResourceOptions(
                    ignore_changes=["snapshotIdentifier", "kmsKeyId"], protect=settings.protect_data
                ),
            ),
            deletion_protection=settings.protect_data,
            **administrator.properties,
            engine="postgres",
            # Only the major version, so that upgrades of the minor version in the maintenance window are not drift.
            engine_version=rds.MAJOR,
            allow_major_version_upgrade=False,
            multi_az=settings.aws_postgres_multi_az,
            allocated_storage=parse_gib(settings.aws_postgres_storage),
            db_subnet_group_name=subnet_group.name,
            # Only for the primary: a replica uses its source's key, and RDS rejects the property. RDS restores a
            # snapshot with the snapshot's key.
            kms_key_id=snapshot.key if snapshot else self.key.arn,
            snapshot_identifier=snapshot.identifier if snapshot else None,
            backup_retention_period=settings.aws_backup_retention_days,
            backup_window=settings.aws_backup_window,
            apply_immediately=False,
            delete_automated_backups=False,
            skip_final_snapshot=False,
            final_snapshot_identifier=f"{name}-final",
        )

    def _copy_backups(self, primary: aws.rds.Instance) -> None:
        """Let RDS copy snapshots and WAL to the region of awsBackupCopyKey, if it is set."""
        settings = self._args.site.settings
        if not settings.aws_backup_copy_key:
            return
        aws.rds.InstanceAutomatedBackupsReplication(
            "postgres-backup-copies",
            region=settings.aws_backup_copy_region,
            source_db_instance_arn=primary.arn,
            # The key of a person, because it has to outlive the stack.
            kms_key_id=settings.aws_backup_copy_key,
            retention_period=settings.aws_backup_retention_days,
            # RDS has at most one copy of an instance in a region, and cannot change it.
            opts=pulumi.ResourceOptions.merge(
                self._child, pulumi.ResourceOptions(delete_before_replace=True)
            ),
        )

    def _make_replica(self, primary: aws.rds.Instance, number: int) -> aws.rds.Instance:
        """Create a read replica in the primary's subnets. It is not protected, because all its data is a copy."""
        name = f"postgres-replica-{number}"
        return aws.rds.Instance(
            name,
            **self._of_every_instance(name, self._args.site.name(f"replica-{number}")),
            replicate_source_db=primary.identifier,
            deletion_protection=False,
            # RDS does not take snapshots of a replica.
            skip_final_snapshot=True,
        )

    def _of_every_instance(
        self, resource_name: str, identifier: str, options: pulumi.ResourceOptions | None = None
    ) -> dict[str, Any]:
        """Return the properties that the primary and the replicas share, and create the instance's log groups."""
        site, settings = self._args.site, self._args.site.settings
        groups = {
            export: self._args.logs.group(
                f"{resource_name}-{export}", f"/aws/rds/instance/{identifier}/{export}", self
            )
            for export in rds.LOG_EXPORTS
        }
        self.log_groups[identifier] = groups["postgresql"].name
        return {
            "identifier": identifier,
            "instance_class": settings.aws_postgres_class,
            "auto_minor_version_upgrade": settings.aws_minor_upgrades,
            "max_allocated_storage": parse_gib(settings.aws_postgres_max_storage),
            "storage_type": "gp3",
            # A replica that writes more slowly than its source would lag.
            "iops": settings.aws_postgres_iops or None,
            "storage_throughput": settings.aws_postgres_throughput or None,
            "storage_encrypted": True,
            "vpc_security_group_ids": [self._args.security_group],
            "publicly_accessible": False,
            "port": rds.PORT,
            "ca_cert_identifier": _AUTHORITY,
            "iam_database_authentication_enabled": True,
            "parameter_group_name": self._parameters.name,
            "maintenance_window": settings.aws_maintenance_window,
            "copy_tags_to_snapshot": True,
            "enabled_cloudwatch_logs_exports": list(rds.LOG_EXPORTS),
            "monitoring_interval": settings.aws_monitoring_seconds,
            "monitoring_role_arn": self._monitoring.arn,
            "database_insights_mode": settings.aws_database_insights,
            "performance_insights_enabled": True,
            "performance_insights_kms_key_id": self.key.arn,
            "performance_insights_retention_period": settings.aws_insights_days,
            "tags": site.tags(resource_name),
            "opts": pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions.merge(self._child, options),
                pulumi.ResourceOptions(depends_on=list(groups.values())),
            ),
        }
