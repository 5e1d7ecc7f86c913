"""Postgres 15 in a container: data volume, configuration, TLS, and the server itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from infra.credentials import Password, ServerCertificate
from infra.docker.checked_parameters import check_parameters
from infra.docker.container import (
    Service,
    ServiceArgs,
    Started,
    certificate_files,
    make_container,
    server_certificate,
    stop_seconds,
)
from infra.docker.files import VolumeFiles, restart_digest
from infra.docker.image import Image
from infra.docker.reload import Reload
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.settings import StackSettings
from infra.spec import backup, backup_repository, postgres_cluster
from infra.spec import postgres as spec
from infra.spec.quantity import parse_bytes

DATA_VOLUME = "postgres-data"


@dataclass(frozen=True, kw_only=True)
class PostgresArgs(ServiceArgs):
    """The arguments of Postgres, which are only the common ones."""


@dataclass(frozen=True)
class Repository:
    """The volume of a stack's backups, and pgBackRest's configuration by file name."""

    volume: docker.Volume
    files: Mapping[str, pulumi.Output[str]]


@dataclass(frozen=True)
class Server:
    """A server that `make_server` declared."""

    data: docker.Volume
    config: docker.Volume
    certificate: ServerCertificate
    started: Started


def server_parameters(settings: StackSettings) -> dict[str, str]:
    """Return every parameter of a stack's server."""
    parameters = spec.parameters(
        parse_bytes(settings.postgres_memory),
        settings.postgres_max_connections,
        settings.postgres_parameters,
    )
    parameters |= backup.archive_parameters() if settings.backups else {}
    return postgres_cluster.parameters(parameters) if settings.postgres_replicas else parameters


class PostgresComponent(pulumi.ComponentResource):
    """A running, healthy Postgres, with or without replicas.

    - `container_name` and `container_id` resolve once the server is healthy, `started_id` once the container runs.
    - `data_volume`, `config_volume` and `image` are what a restore needs when there is no container.

    The type in Pulumi is the same for both kinds, because a resource's identity includes the type of its component. A
    volume with another identity would be deleted.
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

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:docker:Postgres", name, None, opts)

    def _describe(self, server: Server, repository: Repository, image: Image) -> None:
        """Set the attributes to those of a server, and end the component."""
        healthy = server.started.healthy
        self.container_name, self.container_id = healthy.container, healthy.container_id
        self.started_id = server.started.container.id
        self.certificate = server.certificate.certificate
        self.data_volume, self.config_volume = server.data.name, server.config.name
        self.repository_volume, self.image = repository.volume.name, image.image_id
        self.register_outputs({"containerName": self.container_name})


class Postgres(PostgresComponent):
    """A single server with the cluster of its data volume, or a new, empty one.

    Roles and schema are separate resources.
    """

    def __init__(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        child = pulumi.ResourceOptions(parent=self)
        image = Image(image_context(args.checkout, "postgres", args.settings.image_refresh), child)
        repository = make_repository(args, child)
        configuration = single_configuration(args.settings)
        server = make_server(
            args,
            "postgres",
            image=image,
            repository=repository,
            files=configuration,
            restart_on=list(configuration.values()),
            reload=spec.RELOAD,
            opts=child,
            checks=check_parameters(args.settings, image.image_id, configuration["postgresql.conf"], child),
        )
        self._describe(server, repository, image)


def single_configuration(settings: StackSettings) -> dict[str, str]:
    """Return the configuration files of a server without Patroni."""
    return {
        "postgresql.conf": spec.render_conf(server_parameters(settings)),
        "pg_hba.conf": spec.render_hba(),
    }


def make_repository(args: ServiceArgs, opts: pulumi.ResourceOptions) -> Repository:
    """Declare the volume of the backups, and its key. Both are kept if backups are off, and used when they are on."""
    settings = args.settings
    volume = make_volume(args.checkout, args.stack, "postgres-backups", opts, protect=settings.protect_data)
    cipher = Password("backup-cipher", opts)
    configuration = cipher.value.apply(
        lambda cipher_pass: backup.render_conf(
            cipher_pass=cipher_pass,
            retention_full=settings.backup_retention_full,
            queue_max_bytes=parse_bytes(settings.backup_queue_max),
        )
    )
    return Repository(volume, {"pgbackrest.conf": configuration} if settings.backups else {})


def make_server(
    args: ServiceArgs,
    what: str,
    *,
    image: Image,
    repository: Repository,
    files: Mapping[str, pulumi.Input[str]],
    restart_on: Sequence[str],
    reload: Sequence[str],
    opts: pulumi.ResourceOptions,
    address: str | None = None,
    more_pids: int = 64,
    starts_after: Sequence[pulumi.Resource] = (),
    checks: Sequence[pulumi.Resource] = (),
) -> Server:
    """Declare a server with its volumes, certificate and files.

    A change of `restart_on` replaces the container, and `reload` makes the server use other changed files. A server
    with a static `address` belongs to a cluster. Nothing of the server changes if one of the `checks` fails.
    """
    checkout, stack, settings = args.checkout, args.stack, args.settings
    memory = parse_bytes(settings.postgres_memory)
    # A replica's data is a copy, which is deleted when the replicas are turned off.
    is_protected = settings.protect_data and f"{what}-data" == DATA_VOLUME
    data = make_volume(checkout, stack, f"{what}-data", opts, protect=is_protected)
    config = make_volume(checkout, stack, f"{what}-config", opts)
    certificate = server_certificate(what, args, opts, address, for_clients=address is not None)
    written = VolumeFiles(
        f"{what}-files",
        volume=config.name,
        image=image.image_id,
        uid=spec.UID,
        files={**files, **certificate_files(certificate, args.trust), **repository.files},
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=list(checks))),
    )
    socket_tmpfs = f"rw,nosuid,nodev,noexec,size=1m,uid={spec.UID},gid={spec.GID},mode=0755"
    started = make_container(
        checkout,
        stack,
        settings,
        Service(
            what=what,
            image=image.image_id,
            uid=spec.UID,
            memory=settings.postgres_memory,
            stop_seconds=stop_seconds(settings.postgres_memory),
            # One process per connection, plus the server's own processes.
            pids=settings.postgres_max_connections + more_pids,
            network=args.network,
            internal_port=spec.PORT,
            external_port=args.port,
            volumes={
                spec.DATA_DIR: (data.name, True),
                spec.CONFIG_DIR: (config.name, False),
                **({backup_repository.FOLDER: (repository.volume.name, True)} if settings.backups else {}),
            },
            tmpfs={spec.SOCKET_DIR: socket_tmpfs},
            # Parallel queries store their hash tables in /dev/shm.
            shm_mb=max(64, memory // 4 // 1024**2),
            health=["groundwork-health"],
            config_digest=restart_digest(restart_on),
            address=address,
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[written, *starts_after])),
    )
    Reload(f"{what}-reload", server=started.healthy, digest=written.digest, command=reload, opts=opts)
    return Server(data, config, certificate, started)
