"""The access service in a container. It logs in as role app, and reads its connection strings from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from infra.docker.container import Service, ServiceArgs, make_container
from infra.docker.files import VolumeFiles, restart_digest
from infra.docker.image import Image
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.outputs import database_url, redis_url
from infra.passwords import Passwords
from infra.spec import postgres, redis
from infra.spec.access import PORT, UID

SECRETS_DIR = "/run/secrets/groundwork"
_CA_FILE = f"{SECRETS_DIR}/ca.crt"


@dataclass(frozen=True, kw_only=True)
class AccessArgs(ServiceArgs):
    passwords: Passwords
    # The names or addresses of the Redis servers.
    redis_hosts: Sequence[str]
    # Resources that must exist before the service starts. Its image and files do not wait for them.
    starts_after: Sequence[pulumi.Resource]
    # Host and port of each Postgres server in the data network: one, or the members of a cluster.
    databases: Sequence[tuple[str, int]] = (("postgres", postgres.PORT),)


class Access(pulumi.ComponentResource):
    """A container with `groundwork serve`, which is ready if Postgres and Redis answer and the schema is up to date."""

    container_name: pulumi.Output[str]

    def __init__(self, name: str, args: AccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:docker:Access", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        checkout, stack, settings = args.checkout, args.stack, args.settings
        image = Image(image_context(checkout, "access", settings.image_refresh), child)
        config = make_volume(checkout, stack, "access-config", child)
        login, password = args.passwords.postgres("app")
        (host, port), *others = args.databases
        # The service reloads each of these files when it changes, without a restart.
        files = VolumeFiles(
            "access-files",
            volume=config.name,
            image=image.image_id,
            uid=UID,
            files={
                "database_url": password.apply(
                    lambda password: database_url(
                        login=login,
                        password=password,
                        host=host,
                        port=port,
                        ca_file=_CA_FILE,
                        others=others,
                    )
                ),
                "redis_url": args.passwords.redis("app").apply(
                    lambda password: redis_url(
                        user="app",
                        password=password,
                        servers=[(host, redis.PORT) for host in args.redis_hosts],
                        ca_file=_CA_FILE,
                    )
                ),
                "ca.crt": args.trust.bundle,
            },
            opts=child,
        )
        # The service reads the list of servers only at its start.
        servers = [",".join(args.redis_hosts)] if len(args.redis_hosts) > 1 else []
        healthy = make_container(
            checkout,
            stack,
            settings,
            Service(
                what="access",
                image=image.image_id,
                uid=UID,
                memory=settings.access_memory,
                pids=128,
                network=args.network,
                internal_port=PORT,
                external_port=args.port,
                volumes={SECRETS_DIR: (config.name, False)},
                environment={
                    "DATABASE_URL_FILE": f"{SECRETS_DIR}/database_url",
                    "REDIS_URL_FILE": f"{SECRETS_DIR}/redis_url",
                    "GROUNDWORK_POOL_SIZE": str(settings.access_pool_size),
                },
                health=["groundwork-health"],
                config_digest=restart_digest(servers),
            ),
            pulumi.ResourceOptions.merge(
                child, pulumi.ResourceOptions(depends_on=[files, *args.starts_after])
            ),
        ).healthy
        self.container_name = healthy.container
        self.register_outputs({"containerName": healthy.container})
