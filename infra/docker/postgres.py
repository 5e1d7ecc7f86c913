"""Postgres 15 in a container: data volume, configuration, TLS, and the server itself."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.credentials import Password, ServerCertificate, Trust
from infra.docker.container import Service, make_container
from infra.docker.files import VolumeFiles
from infra.docker.image import make_image
from infra.docker.reload import Reload
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.settings import StackSettings
from infra.spec import backup, backup_repository
from infra.spec import postgres as spec
from infra.spec.quantity import parse_bytes
from infra.spec.world import World


@dataclass(frozen=True)
class PostgresArgs:
    world: World
    stack: str
    settings: StackSettings
    network: pulumi.Input[str]
    port: int
    trust: Trust


def server_parameters(settings: StackSettings) -> dict[str, str]:
    """Every parameter of a stack's server."""
    parameters = spec.parameters(
        parse_bytes(settings.postgres_memory),
        settings.postgres_max_connections,
        settings.postgres_parameters,
    )
    return parameters | (backup.archive_parameters() if settings.backups else {})


class Postgres(pulumi.ComponentResource):
    """A running, healthy Postgres with an empty cluster or the one its volume holds.

    `container_name` and `container_id` come once it is healthy, `started_id` before that; roles and schema are
    other resources.
    `data_volume`, `config_volume` and `image` are what a restore needs where there is no container.
    """

    container_name: pulumi.Output[str]
    container_id: pulumi.Output[str]
    started_id: pulumi.Output[str]
    # The server's, PEM.
    certificate: pulumi.Output[str]
    data_volume: pulumi.Output[str]
    config_volume: pulumi.Output[str]
    repository_volume: pulumi.Output[str]
    image: pulumi.Output[str]

    def __init__(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:docker:Postgres", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        world, stack, settings = args.world, args.stack, args.settings
        memory = parse_bytes(settings.postgres_memory)
        image = make_image("postgres", *image_context("postgres"), child)
        data = make_volume(world, stack, "postgres-data", child, protect=settings.protect_data)
        # Also where backups are off: a setting must not delete the backups there are.
        repository = make_volume(world, stack, "postgres-backups", child, protect=settings.protect_data)
        config = make_volume(world, stack, "postgres-config", child)
        certificate = ServerCertificate(
            "postgres-certificate",
            args.trust,
            ["localhost", "127.0.0.1", "postgres", world.name(stack, "postgres")],
            child,
        )
        configuration = {
            "postgresql.conf": spec.render_conf(server_parameters(settings)),
            "pg_hba.conf": spec.render_hba(),
        }
        # Likewise made in any case: without it nothing in the repository can be read.
        cipher = Password("backup-cipher", child)
        backups = {
            "pgbackrest.conf": cipher.value.apply(
                lambda cipher_pass: backup.render_conf(
                    cipher_pass=cipher_pass,
                    retention_full=settings.backup_retention_full,
                    queue_max_bytes=parse_bytes(settings.backup_queue_max),
                )
            )
        }
        files = VolumeFiles(
            "postgres-files",
            volume=config.name,
            image=image.image_id,
            uid=spec.UID,
            files={
                **configuration,
                "server.crt": certificate.certificate,
                "server.key": certificate.private_key,
                "ca.crt": args.trust.bundle,
                **(backups if settings.backups else {}),
            },
            restart_on=list(configuration.values()),
            opts=child,
        )
        socket_tmpfs = f"rw,nosuid,nodev,noexec,size=1m,uid={spec.UID},gid={spec.GID},mode=0755"
        started = make_container(
            world,
            stack,
            settings,
            Service(
                what="postgres",
                image=image.image_id,
                uid=spec.UID,
                memory=settings.postgres_memory,
                # One process a connection, and the server's own workers.
                pids=settings.postgres_max_connections + 64,
                network=args.network,
                internal_port=spec.PORT,
                external_port=args.port,
                volumes={
                    spec.DATA_DIR: (data.name, True),
                    spec.CONFIG_DIR: (config.name, False),
                    **({backup_repository.FOLDER: (repository.name, True)} if settings.backups else {}),
                },
                tmpfs={spec.SOCKET_DIR: socket_tmpfs},
                # Parallel queries keep their hash tables there.
                shm_mb=max(64, memory // 4 // 1024**2),
                health=["groundwork-health"],
                config_digest=files.restart_digest,
            ),
            pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[files])),
        )
        Reload(
            "postgres-reload",
            container=started.healthy.container,
            container_id=started.healthy.container_id,
            digest=files.digest,
            command=spec.RELOAD,
            opts=child,
        )
        self.container_name = started.healthy.container
        self.container_id = started.healthy.container_id
        self.started_id = started.container.id
        self.certificate = certificate.certificate
        self.data_volume, self.config_volume = data.name, config.name
        self.repository_volume, self.image = repository.name, image.image_id
        self.register_outputs({"containerName": started.healthy.container})
