"""The Docker target: settings -> network -> Postgres and Redis -> roles -> migrations -> access -> monitoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_docker as docker

from infra import outputs
from infra.credentials import Password, Trust
from infra.docker.access import Access, AccessArgs
from infra.docker.engine import inspect
from infra.docker.files import HostFile
from infra.docker.members import ClusterState
from infra.docker.monitoring import Monitoring, MonitoringArgs
from infra.docker.network import DataNetwork, DataNetworkArgs
from infra.docker.network_leases import NetworkLeases
from infra.docker.postgres import Postgres, PostgresArgs, server_parameters
from infra.docker.postgres_cluster import PostgresCluster, PostgresClusterArgs
from infra.docker.redis import Redis, RedisArgs
from infra.docker.volume import make_volume
from infra.dynamic import merged_secret
from infra.passwords import Passwords
from infra.schema import Migrations, Roles, database_conninfo
from infra.settings import StackSettings
from infra.settings.shared import TOKEN_KEY
from infra.spec import etcd, postgres, postgres_cluster
from infra.spec.checkout import Checkout
from infra.spec.high_availability import HighAvailability
from infra.spec.quantity import parse_bytes
from infra.spec.roles import verifier_digest
from infra.spec.rotation import Rotation

HOST = "localhost"
METRICS_VOLUME = "prometheus-data"


@dataclass(frozen=True)
class DockerStack:
    """A stack on one machine. `declare` declares every resource and returns the stack outputs."""

    checkout: Checkout
    stack: str
    settings: StackSettings
    leases: NetworkLeases
    rotation: Rotation = field(default_factory=Rotation)
    # Whether a volume with metrics exists. It is kept when monitoring is turned off.
    has_metrics: bool = False
    # The Postgres cluster that runs before this `up`.
    cluster: ClusterState = field(default_factory=ClusterState)
    # The Redis server that is the primary before this `up`, if there are replicas.
    redis_primary: str | None = None

    def declare(self) -> dict[str, pulumi.Input[Any]]:
        checkout, stack, settings, leases = (
            self.checkout,
            self.stack,
            self.settings,
            self.leases,
        )
        engine = _engine()
        trust = Trust.make(f"groundwork {checkout.key} {stack}", self.rotation)
        passwords = Passwords(self.rotation, has_redis_replicas=settings.redis_replicas > 0)
        token_keys = {key_id: Password(TOKEN_KEY + key_id).value for key_id in settings.token_key_ids}
        ca = HostFile("ca-file", path=checkout.ca_file(stack), content=trust.bundle)

        network = DataNetwork("data", DataNetworkArgs(checkout, stack, leases.subnet))
        database = self._postgres(network.name, trust, engine)
        replicas = [port for member, port in self._members().items() if member != "postgres"]
        cache = Redis(
            "redis",
            RedisArgs(
                checkout=checkout,
                stack=stack,
                settings=settings,
                network=network.name,
                port=leases.redis,
                trust=trust,
                passwords=passwords,
                leases=leases,
                primary=self.redis_primary,
            ),
            engine,
        )
        roles = Roles(
            "roles",
            container=checkout.name(stack, "postgres"),
            # Roles waits for the server itself, which is faster than waiting for the engine's next health check.
            container_id=database.started_id,
            verifiers=passwords.verifiers(),
            connection_limits=settings.connection_limits,
            # Without a replica, a server with replicas confirms no write.
            opts=pulumi.ResourceOptions(depends_on=[database]) if replicas else None,
        )
        migrations = Migrations(
            "migrations",
            folder=checkout.root / settings.migrations_folder,
            container_id=database.started_id,
            conninfo=database_conninfo(
                password=passwords.postgres("migrator")[1],
                port=leases.postgres,
                ca_file=ca.path,
                others=replicas,
            ),
            opts=pulumi.ResourceOptions(depends_on=[roles]),
        )
        access = Access(
            "access",
            AccessArgs(
                checkout=checkout,
                stack=stack,
                settings=settings,
                network=network.name,
                port=leases.access,
                trust=trust,
                passwords=passwords,
                redis_hosts=cache.hosts,
                starts_after=[database, migrations, cache],
                **(
                    {"databases": [(address, postgres.PORT) for address in self._addresses().values()]}
                    if replicas
                    else {}
                ),
            ),
            engine,
        )
        monitoring = self._monitoring(
            network=network.name,
            trust=trust,
            certificates={
                "postgres": database.certificate,
                "redis": cache.certificate,
                "authority": trust.signer.certificate,
            },
            passwords=passwords,
            cache=cache,
            starts_after=[roles, access],
            engine=engine,
        )

        def database_urls(logins: Mapping[str, str], *, reads: bool) -> pulumi.Output[dict[str, str]]:
            return _urls(
                {role: passwords.postgres(login) for role, login in logins.items()},
                ca.path,
                lambda login, password, ca_file: outputs.database_url(
                    login=login,
                    password=password,
                    host=HOST,
                    port=leases.postgres,
                    ca_file=ca_file,
                    others=[(HOST, port) for port in replicas],
                    reads=reads,
                ),
            )

        return {
            outputs.TARGET: "docker",
            outputs.POSTGRES: {"host": HOST, "port": leases.postgres},
            **(
                {outputs.POSTGRES_REPLICAS: [{"host": HOST, "port": port} for port in replicas]}
                if replicas
                else {}
            ),
            outputs.REDIS: {"host": HOST, "port": leases.redis},
            **self._redis_servers(),
            outputs.ACCESS_URL: f"http://{HOST}:{leases.access}",
            outputs.CA_FILE: ca.path,
            outputs.CA_CERTIFICATE: trust.bundle,
            outputs.CONTAINERS: {
                "postgres": database.container_name,
                **(database.container_names if isinstance(database, PostgresCluster) else {}),
                **cache.container_names,
                "access": access.container_name,
                "network": network.name,
                **(monitoring.container_names if monitoring else {}),
            },
            # Without monitoring the output is absent, not empty.
            **({outputs.PROMETHEUS_URL: f"http://{HOST}:{leases.prometheus}"} if monitoring else {}),
            outputs.BACKUPS: {
                "enabled": settings.backups,
                "retentionFull": settings.backup_retention_full,
                "fullDays": settings.backup_full_days,
                "image": database.image,
                "dataVolume": database.data_volume,
                "configVolume": database.config_volume,
                "repositoryVolume": database.repository_volume,
            },
            outputs.EXPECTED: _expected(settings, migrations, passwords),
            outputs.ROTATION: self.rotation.as_json(),
            outputs.TOKEN_KEYS: merged_secret(token_keys).apply(
                lambda keys: ",".join(f"{key_id}:{keys[key_id]}" for key_id in settings.token_key_ids)
            ),
            outputs.DATABASE_URLS: database_urls(
                {role: login for role, (login, _) in outputs.ROLES.items() if login}, reads=False
            ),
            **(
                {
                    outputs.DATABASE_READ_URLS: database_urls(
                        {role: role for role in outputs.READING_ROLES}, reads=True
                    )
                }
                if replicas
                else {}
            ),
            outputs.REDIS_URLS: _urls(
                {role: (user, passwords.redis(user)) for role, (_, user) in outputs.ROLES.items() if user},
                ca.path,
                lambda user, password, ca_file: outputs.redis_url(
                    user=user,
                    password=password,
                    servers=[(HOST, port) for port in leases.redis_servers],
                    ca_file=ca_file,
                ),
            ),
        }

    def _members(self) -> dict[str, int]:
        """Return the port of each Postgres server, by member."""
        members = self.leases.postgres_members
        return members if self.settings.postgres_replicas else {"postgres": members["postgres"]}

    def _addresses(self) -> dict[str, str]:
        """Return the address of each member in the data network."""
        return postgres_cluster.addresses(
            self.leases.subnet, postgres_cluster.MEMBERS, postgres_cluster.FIRST_ADDRESS
        )

    def _postgres(
        self, network: pulumi.Input[str], trust: Trust, engine: pulumi.ResourceOptions
    ) -> Postgres | PostgresCluster:
        common: dict[str, Any] = {
            "checkout": self.checkout,
            "stack": self.stack,
            "settings": self.settings,
            "network": network,
            "port": self.leases.postgres,
            "trust": trust,
        }
        if not self.settings.postgres_replicas:
            return Postgres("postgres", PostgresArgs(**common), engine)
        return PostgresCluster(
            "postgres",
            PostgresClusterArgs(
                **common, subnet=self.leases.subnet, ports=self._members(), state=self.cluster
            ),
            engine,
        )

    def _redis_servers(self) -> dict[str, Any]:
        """Return the output with the endpoints of all Redis servers, if there are several."""
        ports = self.leases.redis_servers
        return (
            {outputs.REDIS_SERVERS: [{"host": HOST, "port": port} for port in ports]}
            if len(ports) > 1
            else {}
        )

    def _monitoring(
        self,
        *,
        network: pulumi.Input[str],
        trust: Trust,
        certificates: Mapping[str, pulumi.Output[str]],
        passwords: Passwords,
        cache: Redis,
        starts_after: Sequence[pulumi.Resource],
        engine: pulumi.ResourceOptions,
    ) -> Monitoring | None:
        settings = self.settings
        if not (settings.monitoring or self.has_metrics):
            return None
        # Not a child of the component, so that the metrics are kept while monitoring is off.
        metrics = make_volume(
            self.checkout,
            self.stack,
            METRICS_VOLUME,
            engine,
            protect=settings.protect_data,
        )
        if not settings.monitoring:
            return None
        return Monitoring(
            "monitoring",
            MonitoringArgs(
                checkout=self.checkout,
                stack=self.stack,
                settings=settings,
                network=network,
                port=self.leases.prometheus,
                trust=trust,
                certificates=certificates,
                metrics=metrics.name,
                database_login=passwords.postgres("monitor"),
                redis_user=("monitor", passwords.redis("monitor")),
                starts_after=starts_after,
                **self._replicas(cache),
            ),
            engine,
        )

    def _replicas(self, cache: Redis) -> dict[str, Mapping[str, str]]:
        """Return the addresses of all servers that monitoring needs, by kind. Empty without replicas."""
        found: dict[str, Mapping[str, str]] = {}
        if self.settings.postgres_replicas:
            stores = postgres_cluster.addresses(self.leases.subnet, etcd.MEMBERS, etcd.FIRST_ADDRESS)
            found |= {"members": self._addresses(), "stores": stores}
        if self.settings.redis_replicas:
            found |= {"redis_servers": cache.addresses, "sentinels": cache.sentinel_addresses}
        return found


def _engine() -> pulumi.ResourceOptions:
    """Declare the Docker provider. An implicit provider would start only after that of the dynamic resources."""
    return pulumi.ResourceOptions(providers={"docker": docker.Provider("docker")})


def metrics_are_kept(checkout: Checkout, stack: str, *, monitoring: bool) -> bool:
    """Return whether the volume of metrics exists. If monitoring is off, log that the volume is kept."""
    volume = checkout.name(stack, METRICS_VOLUME)
    exists = bool(inspect("volume", volume))
    if exists and not monitoring:
        pulumi.log.info(
            f"monitoring is off, and volume {volume} keeps the collected metrics:"
            f" it is used again when monitoring is on; `groundwork down --volumes --stack {stack}` deletes it"
        )
    return exists


def _urls(
    users: Mapping[str, tuple[str, pulumi.Output[str]]],
    ca_file: pulumi.Output[str],
    url: Callable[[str, str, str], str],
) -> pulumi.Output[dict[str, str]]:
    """Return the connection string of each role.

    `users` maps roles to (user, password). `url` builds a connection string from user, password and CA file.
    """

    def url_of(user: str, password: pulumi.Output[str]) -> pulumi.Output[str]:
        return pulumi.Output.all(password, ca_file).apply(lambda values: url(user, *values))

    return merged_secret({role: url_of(*user) for role, user in users.items()})


def _expected(settings: StackSettings, migrations: Migrations, passwords: Passwords) -> dict[str, Any]:
    """Return the values with which a live check compares the servers."""
    return {
        "postgresParameters": server_parameters(settings),
        "redisMaxmemoryBytes": parse_bytes(settings.redis_maxmemory),
        "redisEvictionPolicy": settings.redis_eviction_policy,
        "redisPersistence": settings.redis_persistence,
        "highAvailability": HighAvailability.on_docker(
            postgres_replicas=settings.postgres_replicas, redis_replicas=settings.redis_replicas
        ).as_json(),
        "redisMaxclients": settings.redis_maxclients,
        # Without replicas the value is absent.
        **({"redisReplicas": settings.redis_replicas} if settings.redis_replicas else {}),
        "connectionLimits": dict(settings.connection_limits),
        "schemaVersion": migrations.version,
        "verifierDigests": {
            login: pulumi.Output.unsecret(verifier.apply(verifier_digest))
            for login, verifier in passwords.verifiers().items()
        },
    }
