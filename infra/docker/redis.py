"""Redis 7 in a container: data volume, configuration, ACL, TLS, and the server itself."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.credentials import ServerCertificate, Trust
from infra.docker.container import Service, make_container
from infra.docker.files import VolumeFiles
from infra.docker.image import make_image
from infra.docker.reload import Reload
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.passwords import Passwords
from infra.settings import StackSettings
from infra.spec import redis as spec
from infra.spec.quantity import parse_bytes
from infra.spec.redis_acl import MONITOR, ROTATOR, render_aclfile, render_rules
from infra.spec.world import World

# AUTH travels through a pipe: on a command line or in the environment it could be read by others.
_HEALTH = (
    f"{{ printf 'AUTH {MONITOR.name} '; cat {spec.CONFIG_DIR}/monitor.password; echo; echo PING; }}"
    f" | redis-cli -h localhost -p {spec.PORT} --tls --cacert {spec.CONFIG_DIR}/ca.crt"
    " | grep -q PONG"
)


@dataclass(frozen=True)
class RedisArgs:
    world: World
    stack: str
    settings: StackSettings
    network: pulumi.Input[str]
    port: int
    trust: Trust
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
        world, stack, settings = args.world, args.stack, args.settings
        image = make_image("redis", *image_context("redis"), child)
        data = make_volume(world, stack, "redis-data", child, protect=settings.protect_data)
        config = make_volume(world, stack, "redis-config", child)
        certificate = ServerCertificate(
            "redis-certificate",
            args.trust,
            ["localhost", "127.0.0.1", "redis", world.name(stack, "redis")],
            child,
        )
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
                # For the health check, and for what takes up these files without a restart.
                **{f"{user.name}.password": args.passwords.redis(user.name) for user in (MONITOR, ROTATOR)},
                "server.crt": certificate.certificate,
                "server.key": certificate.private_key,
                "ca.crt": args.trust.bundle,
            },
            restart_on=[configuration, render_rules()],
            opts=child,
        )
        healthy = make_container(
            world,
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
                health=["sh", "-c", _HEALTH],
                config_digest=files.restart_digest,
            ),
            pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[files])),
        ).healthy
        Reload(
            "redis-reload",
            container=healthy.container,
            container_id=healthy.container_id,
            digest=files.digest,
            command=spec.RELOAD,
            opts=child,
        )
        self.container_name = healthy.container
        self.container_id = healthy.container_id
        self.certificate = certificate.certificate
        self.register_outputs({"containerName": healthy.container})
