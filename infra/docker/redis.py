"""Redis 7 in a container: data volume, configuration, ACL, TLS, and the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.credentials import Authority, Password, ServerCertificate
from infra.docker.container import Service, make_container
from infra.docker.files import VolumeFiles
from infra.docker.image import make_image
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.settings import StackSettings
from infra.spec import redis as spec
from infra.spec.quantity import parse_bytes
from infra.spec.redis_acl import MONITOR, render_aclfile
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
    authority: Authority
    # user name -> password
    passwords: Mapping[str, Password]


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
            args.authority,
            ["localhost", "127.0.0.1", "redis", world.name(stack, "redis")],
            child,
        )
        aclfile = pulumi.Output.all(
            **{user: password.value for user, password in args.passwords.items()}
        ).apply(lambda values: render_aclfile({user: (value,) for user, value in values.items()}))
        files = VolumeFiles(
            "redis-files",
            volume=config.name,
            image=image.image_id,
            uid=spec.UID,
            files={
                "redis.conf": spec.render_conf(
                    maxmemory_bytes=parse_bytes(settings.redis_maxmemory),
                    eviction_policy=settings.redis_eviction_policy,
                    persistence=settings.redis_persistence,
                    maxclients=settings.redis_maxclients,
                ),
                "users.acl": aclfile,
                "monitor.password": args.passwords[MONITOR.name].value,
                "server.crt": certificate.certificate,
                "server.key": certificate.private_key,
                "ca.crt": args.authority.certificate,
            },
            opts=child,
        )
        container = make_container(
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
                config_digest=files.digest,
            ),
            pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[files])),
        )
        self.container_name = container.name
        self.container_id = container.id
        self.certificate = certificate.certificate
        self.register_outputs({"containerName": container.name})
