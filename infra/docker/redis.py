"""Redis 7 in a container: data volume, configuration, ACL, TLS, and the server itself."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

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
from infra.passwords import Passwords
from infra.spec import redis as spec
from infra.spec.quantity import parse_bytes
from infra.spec.redis_acl import MONITOR, ROTATOR, render_aclfile, render_rules


@dataclass(frozen=True, kw_only=True)
class RedisArgs(ServiceArgs):
    passwords: Passwords


class Redis(pulumi.ComponentResource):
    """A running, healthy Redis whose users are those of infra.spec.redis_acl."""

    container_name: pulumi.Output[str]
    container_id: pulumi.Output[str]
    # The server's, PEM.
    certificate: pulumi.Output[str]

    def __init__(self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:docker:Redis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        checkout, stack, settings = args.checkout, args.stack, args.settings
        image = Image(image_context(checkout, "redis", settings.image_refresh), child)
        data = make_volume(checkout, stack, "redis-data", child, protect=settings.protect_data)
        config = make_volume(checkout, stack, "redis-config", child)
        certificate = server_certificate("redis", args, child)
        accepted: pulumi.Output[dict[str, tuple[str, ...]]] = pulumi.Output.all(
            **args.passwords.redis_accepted()
        )
        configuration = spec.render_conf(
            maxmemory_bytes=parse_bytes(settings.redis_maxmemory),
            eviction_policy=settings.redis_eviction_policy,
            persistence=settings.redis_persistence,
            maxclients=settings.redis_maxclients,
        )
        files = VolumeFiles(
            "redis-files",
            volume=config.name,
            image=image.image_id,
            uid=spec.UID,
            files={
                "redis.conf": configuration,
                "users.acl": accepted.apply(render_aclfile),
                # Passwords for the health check and for the reload command.
                **{f"{user.name}.password": args.passwords.redis(user.name) for user in (MONITOR, ROTATOR)},
                **certificate_files(certificate, args.trust),
            },
            restart_on=[configuration, render_rules()],
            opts=child,
        )
        healthy = make_container(
            checkout,
            stack,
            settings,
            Service(
                what="redis",
                image=image.image_id,
                uid=spec.UID,
                memory=settings.redis_memory,
                pids=64,
                network=args.network,
                internal_port=spec.PORT,
                external_port=args.port,
                volumes={
                    spec.DATA_DIR: (data.name, True),
                    spec.CONFIG_DIR: (config.name, False),
                },
                health=["groundwork-health"],
                config_digest=files.restart_digest,
            ),
            pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[files])),
        ).healthy
        Reload(
            "redis-reload",
            server=healthy,
            digest=files.digest,
            command=spec.RELOAD,
            opts=child,
        )
        self.container_name = healthy.container
        self.container_id = healthy.container_id
        self.certificate = certificate.certificate
        self.register_outputs({"containerName": healthy.container})
