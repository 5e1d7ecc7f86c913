"""The AWS target: settings -> network -> Postgres and Redis -> roles and migrations -> access -> alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from infra import outputs
from infra.aws import trust
from infra.aws.access import Access, AccessArgs
from infra.aws.alarms import Alarms, AlarmsArgs
from infra.aws.bootstrap import Bootstrap, BootstrapArgs
from infra.aws.cluster import Cluster, ClusterArgs
from infra.aws.encryption import EncryptionKey, KeyArgs
from infra.aws.endpoints import Endpoints, EndpointsArgs
from infra.aws.firewall import Firewall, FirewallArgs
from infra.aws.image import Image, ImageArgs
from infra.aws.logins import Logins, LoginsArgs
from infra.aws.logs import Logs
from infra.aws.network import Network, NetworkArgs
from infra.aws.notices import TELLERS, Notices, NoticesArgs
from infra.aws.postgres import Postgres, PostgresArgs
from infra.aws.redis import Redis, RedisArgs
from infra.aws.site import AwsSite
from infra.credentials import Password
from infra.dynamic import merged_secret
from infra.settings import StackSettings
from infra.settings.shared import TOKEN_KEY
from infra.spec import alarms, aws_sizes, rds
from infra.spec import postgres as postgres_spec
from infra.spec.checkout import Checkout
from infra.spec.high_availability import HighAvailability
from infra.spec.quantity import parse_bytes
from infra.spec.roles import login_of


@dataclass(frozen=True)
class AwsStack:
    """A stack on AWS. `declare` declares every resource and returns the stack outputs."""

    checkout: Checkout
    stack: str
    settings: StackSettings

    def declare(self) -> dict[str, pulumi.Input[Any]]:
        settings = self.settings
        site = AwsSite.of(self.stack, settings)
        top = site.component()
        token_keys = {key_id: Password(TOKEN_KEY + key_id).value for key_id in settings.token_key_ids}
        operations = EncryptionKey(
            "operations",
            KeyArgs(
                site,
                "Logs, alarms and images of this stack",
                services=[f"logs.{site.region}.amazonaws.com", *TELLERS],
            ),
            top,
        )
        logs = Logs(site, operations)
        notices = Notices("notices", NoticesArgs(site, operations), top)
        network = Network("network", NetworkArgs(site), top)
        firewall = Firewall("firewall", FirewallArgs(site, network.vpc_id), top)
        ways_out = self._endpoints(site, network, firewall, top)
        postgres = Postgres(
            "postgres",
            PostgresArgs(site=site, subnets=network.isolated, security_group=firewall.postgres, logs=logs),
            top,
        )
        redis = Redis(
            "redis",
            RedisArgs(
                site=site, subnets=network.isolated, security_group=firewall.redis, logs=logs, notices=notices
            ),
            top,
        )
        logins = Logins("logins", LoginsArgs(site, postgres.resource_ids, redis.group_id, redis.users), top)
        image = Image("image", ImageArgs(self.checkout, site, operations), top)
        cluster = Cluster("cluster", ClusterArgs(site, image.reference, image.repository_arn, logs), top)
        database_urls = {
            role: _database_url(postgres, login_of(login, 1))
            for role, (login, _) in outputs.ROLES.items()
            if login
        }
        redis_urls = {
            role: _redis_url(redis, redis.users[user]) for role, (_, user) in outputs.ROLES.items() if user
        }
        bootstrap = Bootstrap(
            "bootstrap",
            BootstrapArgs(
                site=site,
                cluster=cluster,
                postgres=postgres,
                database_url=database_urls["migrator"],
                migrator_policy=logins.policies["migrator"],
                subnets=network.private,
                security_group=firewall.application,
                migrations_folder=self.checkout.root / settings.migrations_folder,
                starts_after=[firewall, *ways_out],
            ),
            top,
        )
        login_environment: dict[str, pulumi.Input[str]] = {
            "GROUNDWORK_DATABASE_LOGIN": "iam",
            "GROUNDWORK_CACHE_LOGIN": "iam",
            "GROUNDWORK_REPLICATION_GROUP": redis.group_id,
            "AWS_REGION": site.region,
        }
        access = Access(
            "access",
            AccessArgs(
                site=site,
                cluster=cluster,
                vpc_id=network.vpc_id,
                subnets=network.private,
                security_groups=[firewall.application, firewall.access],
                environment={
                    **login_environment,
                    "DATABASE_URL": database_urls["app"],
                    "REDIS_URL": redis_urls["app"],
                },
                login_policy=logins.policies["app"],
                starts_after=[bootstrap, redis, firewall, *ways_out],
            ),
            top,
        )
        watched = self._alarms(site, postgres, redis, cluster, notices, top)
        return {
            outputs.TARGET: "aws",
            outputs.POSTGRES: {"host": postgres.host, "port": postgres.port},
            outputs.POSTGRES_REPLICAS: [
                {"host": host, "port": postgres.port} for host in postgres.replica_hosts
            ],
            outputs.REDIS: {"host": redis.host, "port": redis.port},
            outputs.ACCESS_URL: access.url,
            outputs.CA_FILE: trust.RDS_PATH,
            outputs.APPLICATION_SECURITY_GROUP: firewall.application,
            outputs.LOGIN_POLICIES: logins.policies,
            outputs.LOGIN_ENVIRONMENT: login_environment,
            outputs.DASHBOARD: watched.dashboard,
            outputs.BACKUPS: {"region": site.region, "instance": postgres.identifier},
            outputs.EXPECTED: _expected(settings, bootstrap),
            outputs.DATABASE_URLS: database_urls,
            **self._read_urls(postgres),
            outputs.REDIS_URLS: redis_urls,
            outputs.TOKEN_KEYS: merged_secret(token_keys).apply(
                lambda keys: ",".join(f"{key_id}:{keys[key_id]}" for key_id in settings.token_key_ids)
            ),
        }

    def _read_urls(self, postgres: Postgres) -> dict[str, Any]:
        """Return the output with the read URLs, if there are replicas: first the replicas, then the instance."""
        if not postgres.replica_hosts:
            return {}
        hosts = pulumi.Output.all(*postgres.replica_hosts, postgres.host)

        def url_of(login: str) -> pulumi.Output[str]:
            return hosts.apply(
                lambda names: outputs.database_url(
                    login=login,
                    password=None,
                    host=names[0],
                    port=postgres.port,
                    ca_file=trust.RDS_PATH,
                    others=[(name, postgres.port) for name in names[1:]],
                    reads=True,
                )
            )

        return {
            outputs.DATABASE_READ_URLS: {role: url_of(login_of(role, 1)) for role in outputs.READING_ROLES}
        }

    def _endpoints(
        self, site: AwsSite, network: Network, firewall: Firewall, top: pulumi.ResourceOptions
    ) -> list[pulumi.Resource]:
        if not self.settings.aws_vpc_endpoints:
            firewall.allow_https()
            return []
        return [
            Endpoints(
                "endpoints",
                EndpointsArgs(
                    site=site,
                    vpc_id=network.vpc_id,
                    subnets=network.private,
                    route_tables=network.route_tables,
                    firewall=firewall,
                ),
                top,
            )
        ]

    def _alarms(
        self,
        site: AwsSite,
        postgres: Postgres,
        redis: Redis,
        cluster: Cluster,
        notices: Notices,
        top: pulumi.ResourceOptions,
    ) -> Alarms:
        settings = self.settings
        # Use the names that the program assigns, because the alarms' names must be known before `up`.
        replicas = [site.name(f"replica-{n + 1}") for n in range(settings.postgres_replicas)]
        every = [
            *alarms.postgres_alarms(
                primary=site.name(),
                replicas=replicas,
                instance_class=settings.aws_postgres_class,
                storage_bytes=parse_bytes(settings.aws_postgres_storage),
                connections=sum(settings.connection_limits.values()),
                namespace=site.name(),
            ),
            *alarms.redis_alarms(
                nodes=redis.nodes,
                node_type=settings.aws_redis_node_type,
                eviction_policy=settings.redis_eviction_policy,
            ),
            *alarms.access_alarms(
                cluster=site.name(),
                service="access",
                count=settings.aws_access_count,
                namespace=site.name(),
            ),
        ]
        return Alarms(
            "alarms",
            AlarmsArgs(
                site=site,
                notices=notices,
                alarms=every,
                logs={"access": cluster.log_groups["access"].name, **postgres.log_groups},
                instances=[postgres.identifier, *postgres.replica_identifiers],
                parameter_group=postgres.parameter_group,
            ),
            top,
        )


def _database_url(postgres: Postgres, login: str) -> pulumi.Output[str]:
    return postgres.host.apply(
        lambda host: outputs.database_url(
            login=login, password=None, host=host, port=postgres.port, ca_file=trust.RDS_PATH
        )
    )


def _redis_url(redis: Redis, user: str) -> pulumi.Output[str]:
    return redis.host.apply(
        lambda host: outputs.redis_url(
            user=user, password=None, servers=[(host, redis.port)], ca_file=trust.ELASTICACHE_PATH
        )
    )


def _expected(settings: StackSettings, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the values with which a live check compares the servers."""
    parameters = postgres_spec.parameters(
        aws_sizes.database_memory(settings.aws_postgres_class),
        settings.postgres_max_connections,
        settings.postgres_parameters,
    )
    node = aws_sizes.cache_memory(settings.aws_redis_node_type)
    return {
        "postgresParameters": {k: v for k, v in parameters.items() if k not in rds.OWN_OF_RDS},
        "redisMaxmemoryBytes": node * (100 - settings.aws_redis_reserved_percent) // 100,
        "redisEvictionPolicy": settings.redis_eviction_policy,
        "redisPersistence": settings.redis_persistence,
        "highAvailability": HighAvailability.on_aws(
            postgres_replicas=settings.postgres_replicas,
            has_standby=settings.aws_postgres_multi_az,
            redis_nodes=settings.aws_redis_node_count,
            is_fenced=settings.redis_replicas > 0,
        ).as_json(),
        "connectionLimits": dict(settings.connection_limits),
        "schemaVersion": bootstrap.version,
    }
