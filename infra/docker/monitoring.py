"""Prometheus and the exporters for Postgres and Redis: three containers from one image, with replicas too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra.docker.container import Service, ServiceArgs, make_container
from infra.docker.files import VolumeFiles
from infra.docker.image import Image
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.monitoring import configuration, replicas
from infra.spec import access, postgres, redis
from infra.spec.monitoring import PORTS, POSTGRES_EXPORTER, PROMETHEUS, REDIS_EXPORTER, UIDS
from infra.spec.quantity import parse_bytes

_EXPORTER_MEMORY = "64MB"
# An exporter for each server.
_EXPORTERS_MEMORY = "128MB"
# Threads of a Go program that waits most of the time.
_PIDS = 64
# The paths of the health checks. Not /metrics, because each request of that would query the server.
_HEALTH = {PROMETHEUS: "/-/ready", POSTGRES_EXPORTER: "/", REDIS_EXPORTER: "/health"}


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs(ServiceArgs):
    # Server or authority -> its certificate, PEM.
    certificates: Mapping[str, pulumi.Input[str]]
    # The volume that Prometheus writes to.
    metrics: pulumi.Input[str]
    # (name, password) that the exporters log in with.
    database_login: tuple[str, pulumi.Input[str]]
    redis_user: tuple[str, pulumi.Input[str]]
    # Resources that must exist first: the exporters log in, and Prometheus scrapes them and the access service.
    starts_after: Sequence[pulumi.Resource]
    # With replicas, name -> address: the servers of Postgres and of etcd, those of Redis and its Sentinels.
    members: Mapping[str, str] = field(default_factory=dict)
    stores: Mapping[str, str] = field(default_factory=dict)
    redis_servers: Mapping[str, str] = field(default_factory=dict)
    sentinels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Part:
    """One of the three containers."""

    name: str
    command: Sequence[str]
    files: Mapping[str, pulumi.Input[str]]
    memory: str = _EXPORTER_MEMORY
    # Programs in Go, which share the memory.
    processes: int = 1
    external_port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, tuple[pulumi.Input[str], bool]] = field(default_factory=dict)


class Monitoring(pulumi.ComponentResource):
    """Prometheus, which scrapes the stack and evaluates the alert rules, with its exporters."""

    # Service -> name of its container.
    container_names: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:docker:Monitoring", name, None, opts)
        context = image_context(args.checkout, "monitoring", args.settings.image_refresh)
        image = Image(context, pulumi.ResourceOptions(parent=self)).image_id
        self.container_names = {
            part.name: self._run(part, image, args)
            for part in (_postgres_exporter(args), _redis_exporter(args), _prometheus(args))
        }
        self.register_outputs(dict(self.container_names))

    def _run(self, part: _Part, image: pulumi.Input[str], args: MonitoringArgs) -> pulumi.Output[str]:
        child = pulumi.ResourceOptions(parent=self)
        config = make_volume(args.checkout, args.stack, f"{part.name}-config", child)
        files = VolumeFiles(
            f"{part.name}-files",
            volume=config.name,
            image=image,
            uid=UIDS[part.name],
            files=part.files,
            opts=child,
        )
        port = PORTS[part.name]
        started = make_container(
            args.checkout,
            args.stack,
            args.settings,
            Service(
                what=part.name,
                image=image,
                uid=UIDS[part.name],
                memory=part.memory,
                pids=_PIDS,
                network=args.network,
                internal_port=port,
                external_port=part.external_port,
                volumes={configuration.CONFIG_DIR: (config.name, False), **part.data},
                # Near this value Go collects garbage more often, so the process stays below the container's limit.
                environment={
                    "GOMEMLIMIT": str(parse_bytes(part.memory) * 8 // 10 // part.processes),
                    **part.environment,
                },
                command=part.command,
                health=["groundwork-http-health", str(port), _HEALTH[part.name]],
                config_digest=files.digest,
            ),
            pulumi.ResourceOptions.merge(
                child, pulumi.ResourceOptions(depends_on=[files, *args.starts_after])
            ),
        )
        return started.healthy.container


def _postgres_exporter(args: MonitoringArgs) -> _Part:
    login, password = args.database_login
    files: dict[str, pulumi.Input[str]] = {
        "pgpass": pulumi.Output.from_input(password).apply(lambda pw: configuration.pgpass({login: pw})),
        "ca.crt": args.trust.bundle,
    }
    if args.members:
        return _Part(
            POSTGRES_EXPORTER,
            replicas.postgres_exporters_command(args.members),
            {**files, "queries.yml": replicas.postgres_queries()},
            memory=_EXPORTERS_MEMORY,
            processes=len(args.members),
            environment=configuration.postgres_login_environment(login),
        )
    return _Part(
        POSTGRES_EXPORTER,
        configuration.postgres_exporter_command(),
        {**files, "queries.yml": configuration.POSTGRES_QUERIES.read_text(encoding="utf-8")},
        environment=configuration.postgres_exporter_environment("postgres", postgres.PORT, login),
    )


def _redis_exporter(args: MonitoringArgs) -> _Part:
    user, password = args.redis_user
    single = configuration.redis_address("redis", redis.PORT)
    several = replicas.redis_addresses(args.redis_servers, args.sentinels)
    files: dict[str, pulumi.Input[str]] = {
        "redis_passwords.json": pulumi.Output.from_input(password).apply(
            lambda pw: configuration.redis_passwords([*several.values()] or [single], pw)
        ),
        "ca.crt": args.trust.bundle,
    }
    if several:
        return _Part(
            REDIS_EXPORTER,
            configuration.redis_exporter_command("", user),
            {**files, replicas.PATHS_FILE: replicas.render_redis_paths(several)},
            environment=replicas.REDIS_ENVIRONMENT,
        )
    return _Part(REDIS_EXPORTER, configuration.redis_exporter_command(single, user), files)


def _prometheus(args: MonitoringArgs) -> _Part:
    settings = args.settings
    targets = configuration.stack_targets(access.PORT, settings.monitoring_targets)
    jobs: list[dict[str, Any]] = []
    rules: dict[str, str] = {}
    if args.members:
        jobs += replicas.postgres_jobs(args.members, args.stores)
        rules |= replicas.rule_file("postgres")
    if args.redis_servers:
        jobs += replicas.redis_jobs([*args.redis_servers], [*args.sentinels])
        rules |= replicas.rule_file("redis")
    return _Part(
        PROMETHEUS,
        configuration.prometheus_command(
            retention=settings.prometheus_retention,
            disk_mb=parse_bytes(settings.prometheus_disk) // 1024**2,
        ),
        {
            **configuration.prometheus_files(
                configuration.render_prometheus(args.stack, targets, jobs=jobs), settings.redis_maxclients
            ),
            **rules,
            configuration.CERTIFICATES_FILE: pulumi.Output.all(**args.certificates).apply(_rendered_expiries),
        },
        memory=settings.prometheus_memory,
        external_port=args.port,
        data={configuration.DATA_DIR: (args.metrics, True)},
    )


def _rendered_expiries(certificates: Mapping[str, str]) -> str:
    # Imported here, because a stack without monitoring does not read certificates.
    from infra.certificates import expires_at

    return configuration.render_certificates(
        {name: expires_at(certificate) for name, certificate in certificates.items()}
    )
