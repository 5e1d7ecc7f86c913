"""Redis or Valkey on ElastiCache: a replication group across zones, TLS only, whose users log in with IAM tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey, KeyArgs
from infra.aws.logs import Logs
from infra.aws.notices import Notices
from infra.aws.site import AwsSite
from infra.spec import elasticache, redis


@dataclass(frozen=True)
class RedisArgs:
    site: AwsSite
    subnets: Sequence[pulumi.Input[str]]
    security_group: pulumi.Input[str]
    logs: Logs
    # The topic for events such as failovers.
    notices: Notices


class Redis(pulumi.ComponentResource):
    """The replication group and its users."""

    # Always the current primary.
    host: pulumi.Output[str]
    reader_host: pulumi.Output[str]
    group_id: pulumi.Output[str]
    port: int
    # User name in infra.spec.redis_acl -> user id in ElastiCache.
    users: dict[str, str]
    # The ids of the nodes, as in the metrics.
    nodes: list[str]

    def __init__(self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Redis", name, None, opts)
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        site, settings = args.site, args.site.settings
        key = EncryptionKey(
            "redis", KeyArgs(site, "Redis of this stack: memory on disk, snapshots"), self._child
        )
        # IAM requires that a user's id and name are equal, and ids must be unique in the account.
        self.users = {user: site.name(user) for user in elasticache.access_strings()}
        user_group = self._make_users()
        *earlier, engine = elasticache.engines_up_to(settings.aws_redis_engine)
        parameters = self._make_parameters(engine)
        # ElastiCache changes the engine in the maintenance window, and refuses to delete the earlier group until then.
        unused = [self._make_parameters(each) for each in earlier]
        subnet_group = aws.elasticache.SubnetGroup(
            "redis",
            name=site.name(),
            subnet_ids=list(args.subnets),
            description="Isolated subnets of this stack",
            tags=site.tags("redis"),
            opts=self._child,
        )
        logs = {
            kind: args.logs.group(f"redis-{kind}", f"/groundwork/{site.stack}/redis/{kind}", self)
            for kind in ("slow-log", "engine-log")
        }
        group = aws.elasticache.ReplicationGroup(
            "redis",
            replication_group_id=site.name(),
            description="The cache of this stack",
            engine=engine.name,
            engine_version=engine.version,
            auto_minor_version_upgrade=settings.aws_minor_upgrades,
            node_type=settings.aws_redis_node_type,
            num_cache_clusters=settings.aws_redis_node_count,
            automatic_failover_enabled=settings.aws_redis_failover,
            multi_az_enabled=settings.aws_redis_failover,
            subnet_group_name=subnet_group.name,
            security_group_ids=[args.security_group],
            port=redis.PORT,
            parameter_group_name=parameters.name,
            at_rest_encryption_enabled=True,
            kms_key_id=key.arn,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            user_group_ids=[user_group.user_group_id],
            snapshot_retention_limit=settings.aws_redis_snapshot_days,
            snapshot_window=settings.aws_backup_window,
            final_snapshot_identifier=site.name("final"),
            maintenance_window=settings.aws_maintenance_window,
            apply_immediately=False,
            notification_topic_arn=args.notices.cache_topic,
            log_delivery_configurations=[
                aws.elasticache.ReplicationGroupLogDeliveryConfigurationArgs(
                    destination=log.name, destination_type="cloudwatch-logs", log_format="json", log_type=kind
                )
                for kind, log in logs.items()
            ],
            tags=site.tags("redis"),
            opts=pulumi.ResourceOptions.merge(
                self._child,
                pulumi.ResourceOptions(protect=settings.protect_data, depends_on=[args.notices, *unused]),
            ),
        )
        self.host, self.reader_host = group.primary_endpoint_address, group.reader_endpoint_address
        self.group_id, self.port = group.replication_group_id, redis.PORT
        self.nodes = [f"{site.name()}-{n + 1:03}" for n in range(settings.aws_redis_node_count)]
        self.register_outputs({"host": self.host, "groupId": self.group_id})

    def _make_parameters(self, engine: elasticache.Engine) -> aws.elasticache.ParameterGroup:
        site, settings = self._args.site, self._args.site.settings
        # Stacks from before awsRedisEngine have a group with this name.
        name = "redis" if engine.name == "redis" else f"redis-{engine.family}"
        return aws.elasticache.ParameterGroup(
            name,
            name=site.name(engine.family),
            family=engine.family,
            description="Rendered from infra/spec",
            parameters=[
                aws.elasticache.ParameterGroupParameterArgs(name=parameter, value=value)
                for parameter, value in elasticache.parameters(
                    engine,
                    eviction_policy=settings.redis_eviction_policy,
                    reserved_percent=settings.aws_redis_reserved_percent,
                    is_fenced=settings.redis_replicas > 0,
                ).items()
            ],
            tags=site.tags(name),
            opts=self._child,
        )

    def _make_users(self) -> aws.elasticache.UserGroup:
        site = self._args.site
        # A user group must contain a user named `default`. This one cannot log in.
        users = [
            aws.elasticache.User(
                "redis-default",
                user_id=site.name("default"),
                user_name="default",
                engine=elasticache.USER_ENGINE,
                access_string=elasticache.DEFAULT_ACCESS,
                # AWS returns the authentication mode under another name, which would be a permanent difference. This
                # property is not read back.
                no_password_required=True,
                tags=site.tags("redis-default"),
                opts=self._child,
            )
        ]
        users += [
            aws.elasticache.User(
                f"redis-{user}",
                user_id=self.users[user],
                user_name=self.users[user],
                engine=elasticache.USER_ENGINE,
                access_string=rules,
                authentication_mode=aws.elasticache.UserAuthenticationModeArgs(type="iam"),
                tags=site.tags(f"redis-{user}"),
                opts=self._child,
            )
            for user, rules in elasticache.access_strings().items()
        ]
        return aws.elasticache.UserGroup(
            "redis",
            user_group_id=site.name(),
            engine=elasticache.USER_ENGINE,
            user_ids=[user.user_id for user in users],
            tags=site.tags("redis"),
            opts=self._child,
        )
