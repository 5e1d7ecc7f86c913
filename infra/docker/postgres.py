"""Postgres 15 in a container: data volume, configuration, TLS, and the server itself."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.credentials import Password
from infra.docker.container import (
    Service,
    ServiceArgs,
    certificate_files,
    make_container,
    server_certificate,
)
from infra.docker.files import VolumeFiles
from infra.docker.image import Image
from infra.docker.reload import Reload
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.settings import StackSettings
from infra.spec import backup, backup_repository
from infra.spec import postgres as spec
from infra.spec.quantity import parse_bytes

DATA_VOLUME = "postgres-data"


@dataclass(frozen=True, kw_only=True)
class PostgresArgs(ServiceArgs):
    """The arguments of Postgres, which are only the common ones."""


def server_parameters(settings: StackSettings) -> dict[str, str]:
    """Return every parameter of a stack's server."""
    parameters = spec.parameters(
        parse_bytes(settings.postgres_memory),
        settings.postgres_max_connections,
        settings.postgres_parameters,
    )
    return parameters | (backup.archive_parameters() if settings.backups else {})


class Postgres(pulumi.ComponentResource):
    """A running, healthy Postgres with the cluster of its data volume, or a new, empty one.

    - `container_name` and `container_id` resolve once the server is healthy, `started_id` once the container runs.
    - `data_volume`, `config_volume` and `image` are what a restore needs when there is no container.

    Roles and schema are separate resources.
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
        checkout, stack, settings = args.checkout, args.stack, args.settings
        memory = parse_bytes(settings.postgres_memory)
        image = Image(image_context(checkout, "postgres", settings.image_refresh), child)
        data = make_volume(checkout, stack, DATA_VOLUME, child, protect=settings.protect_data)
        # Created even if backups are off, because changing the setting must not delete existing backups.
        repository = make_volume(checkout, stack, "postgres-backups", child, protect=settings.protect_data)
        config = make_volume(checkout, stack, "postgres-config", child)
        certificate = server_certificate("postgres", args, child)
        configuration = {
            "postgresql.conf": spec.render_conf(server_parameters(settings)),
            "pg_hba.conf": spec.render_hba(),
        }
        # Created even if backups are off, because the repository cannot be read without it.
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
                **certificate_files(certificate, args.trust),
                **(backups if settings.backups else {}),
            },
            restart_on=list(configuration.values()),
            opts=child,
        )
        socket_tmpfs = f"rw,nosuid,nodev,noexec,size=1m,uid={spec.UID},gid={spec.GID},mode=0755"
        started = make_container(
            checkout,
            stack,
            settings,
            Service(
                what="postgres",
                image=image.image_id,
                uid=spec.UID,
                memory=settings.postgres_memory,
                # One process per connection, plus the server's own processes.
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
                # Parallel queries store their hash tables in /dev/shm.
                shm_mb=max(64, memory // 4 // 1024**2),
                health=["groundwork-health"],
                config_digest=files.restart_digest,
            ),
            pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[files])),
        )
        Reload(
            "postgres-reload",
            server=started.healthy,
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
