"""Redis 7 in containers: data volume, configuration, ACL, TLS, and the server itself, or three with Sentinels."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import pulumi
from pulumi import dynamic

from infra.credentials import ServerCertificate
from infra.docker.container import (
    Service,
    ServiceArgs,
    certificate_files,
    make_container,
    server_certificate,
    service_digest,
    stop_seconds,
)
from infra.docker.files import VolumeFiles, restart_digest
from infra.docker.health import Healthy
from infra.docker.image import Image
from infra.docker.network_leases import NetworkLeases
from infra.docker.redis_drain import RedisDrain
from infra.docker.reload import Reload
from infra.docker.volume import make_volume
from infra.dynamic import Provider
from infra.images.context import image_context
from infra.passwords import Passwords
from infra.settings import StackSettings
from infra.spec import redis as spec
from infra.spec import redis_acl
from infra.spec import redis_replication as replication
from infra.spec.errors import SettingError
from infra.spec.quantity import parse_bytes


@dataclass(frozen=True, kw_only=True)
class RedisArgs(ServiceArgs):
    """`primary` is the server that is the primary before this `up`, if there are replicas."""

    passwords: Passwords
    leases: NetworkLeases
    primary: str | None = None


@dataclass(frozen=True)
class _Member:
    """A server of a Redis with replicas: its address, and the address of the first primary."""

    address: str
    first_primary: str | None
    # A new identity makes a server forget its role and the addresses of the others.
    identity: pulumi.Output[str]
    buffer_bytes: int

    def entrypoint(self) -> pulumi.Output[Sequence[str]]:
        return self.identity.apply(
            lambda identity: replication.server_entrypoint(identity, self.first_primary)
        )

    def configuration(self, passwords: Passwords) -> tuple[pulumi.Output[str], str]:
        """Return the additional configuration file, and the same text without the password."""

        def render(password: str) -> str:
            return replication.render_server_conf(
                address=self.address, replica_password=password, buffer_bytes=self.buffer_bytes
            )

        return passwords.redis(redis_acl.REPLICA.name).apply(render), render("")


class ReplicationIdProvider(Provider):
    """Creates a random id."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(id_=secrets.token_hex(8), outs=dict(props))


class ReplicationId(dynamic.Resource):
    """An id that is new if replicas are turned on again."""

    def __init__(self, opts: pulumi.ResourceOptions) -> None:
        super().__init__(ReplicationIdProvider(), "redis-replication", {}, opts)


class Redis(pulumi.ComponentResource):
    """A running, healthy Redis whose users are those of infra.spec.redis_acl.

    - `container_names`: by service.
    - `hosts`: the names or addresses of the servers in the data network.
    - `certificate`: the first server's, PEM.
    - `addresses`, `sentinel_addresses`: by service, with replicas; otherwise empty.

    With replicas there are more servers, and Sentinels. Any of the servers may be the primary.
    """

    container_names: dict[str, pulumi.Output[str]]
    hosts: list[str]
    certificate: pulumi.Output[str]
    addresses: dict[str, str]
    sentinel_addresses: dict[str, str]

    def __init__(self, name: str, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:docker:Redis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self._image = Image(image_context(args.checkout, "redis", args.settings.image_refresh), child)
        members = _members(args, child)
        self.hosts = [member.address for member in members] or ["redis"]
        names = replication.SERVER_NAMES[: len(self.hosts)]
        ports = dict(zip(names, args.leases.redis_servers, strict=True))
        servers: dict[str, tuple[Healthy, ServerCertificate]] = {}
        # One after the other, and the primary last, so that it changes once.
        for what in sorted(names, key=lambda name: name == args.primary):
            member = members[names.index(what)] if members else None
            before: list[pulumi.Resource] = [server for server, _ in servers.values()]
            servers[what] = self._server(what, ports[what], args, member, before)
        self.container_names = {what: servers[what][0].container for what in names}
        self.certificate = servers[names[0]][1].certificate
        self.addresses = {what: member.address for what, member in zip(names, members, strict=False)}
        self.sentinel_addresses = {}
        if members:
            addresses = _addresses(args.leases, replication.FIRST_SENTINEL_ADDRESS, replication.SENTINELS)
            self.sentinel_addresses = dict(zip(replication.SENTINEL_NAMES, addresses, strict=True))
            # Sentinels start after the servers, because they would report the primary as down. They start one after the
            # other, so that a change never leaves too few Sentinels for a failover.
            before = [server for server, _ in servers.values()]
            for what, address in self.sentinel_addresses.items():
                sentinel = self._sentinel(what, address, members[0], args, before)
                before = [*before, sentinel]
                self.container_names[what] = sentinel.container
        self.register_outputs({"containerName": self.container_names["redis"]})

    def _server(
        self,
        what: str,
        port: int,
        args: RedisArgs,
        member: _Member | None,
        before: Sequence[pulumi.Resource],
    ) -> tuple[Healthy, ServerCertificate]:
        """Declare one server, and return it with its certificate."""
        child = pulumi.ResourceOptions(parent=self)
        checkout, stack, settings = args.checkout, args.stack, args.settings
        # The other servers have copies. Protecting their volumes would only prevent turning replicas off.
        is_first = what == replication.SERVER_NAMES[0]
        data = make_volume(checkout, stack, f"{what}-data", child, protect=is_first and settings.protect_data)
        config = make_volume(checkout, stack, f"{what}-config", child)
        certificate = server_certificate(what, args, child, member.address if member else None)
        users = redis_acl.REPLICATED_USERS if member else redis_acl.LOCAL_USERS
        aclfile = _aclfile(args.passwords, users)
        configuration = _configuration(settings)
        additional, restart_on = {}, [configuration, redis_acl.render_rules(users)]
        if member:
            additional[spec.REPLICATION_FILE], shown = member.configuration(args.passwords)
            restart_on.append(shown)
        service = Service(
            what=what,
            image=self._image.image_id,
            uid=spec.UID,
            memory=settings.redis_memory,
            stop_seconds=stop_seconds(settings.redis_memory),
            pids=64,
            network=args.network,
            internal_port=spec.PORT,
            external_port=port,
            volumes={
                spec.DATA_DIR: (data.name, True),
                spec.CONFIG_DIR: (config.name, False),
            },
            health=["groundwork-health"],
            config_digest=restart_digest(restart_on),
            entrypoint=member.entrypoint() if member else None,
            address=member.address if member else None,
        )
        first: list[pulumi.Resource] = []
        keeps_data = settings.redis_persistence != "none"
        if member or keeps_data:
            drain = RedisDrain(
                what,
                first_container=checkout.name(stack, replication.SERVER_NAMES[0]),
                maxmemory_bytes=parse_bytes(settings.redis_maxmemory),
                eviction_policy=settings.redis_eviction_policy,
                keeps_data=keeps_data,
                has_replicas=member is not None,
                digest=service_digest(service, settings),
                opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[*before])),
            )
            first.append(drain)
        # After the drain, because a server that restarts reads them, also if the drain refuses the change.
        files = VolumeFiles(
            f"{what}-files",
            volume=config.name,
            image=self._image.image_id,
            uid=spec.UID,
            files={
                "redis.conf": configuration,
                **additional,
                "users.acl": aclfile,
                # Passwords for the health check and for the reload command.
                **{
                    f"{user.name}.password": args.passwords.redis(user.name)
                    for user in (redis_acl.MONITOR, redis_acl.ROTATOR)
                },
                **certificate_files(certificate, args.trust),
            },
            opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=list(first))),
        )
        first.append(files)
        healthy = make_container(
            checkout,
            stack,
            settings,
            service,
            pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=first)),
        ).healthy
        Reload(
            f"{what}-reload",
            server=healthy,
            digest=files.digest,
            command=spec.RELOAD,
            opts=child,
        )
        return healthy, certificate

    def _sentinel(
        self,
        what: str,
        address: str,
        first: _Member,
        args: RedisArgs,
        before: Sequence[pulumi.Resource],
    ) -> Healthy:
        """Declare one Sentinel. It is replaced when any of its files changes, because it keeps what it knows."""
        child = pulumi.ResourceOptions(parent=self)
        checkout, stack, passwords = args.checkout, args.stack, args.passwords
        data = make_volume(checkout, stack, f"{what}-data", child)
        config = make_volume(checkout, stack, f"{what}-config", child)
        certificate = server_certificate(what, args, child, address)
        peer, sentinel = (passwords.redis(user.name) for user in (redis_acl.PEER, redis_acl.SENTINEL))
        files = VolumeFiles(
            f"{what}-files",
            volume=config.name,
            image=self._image.image_id,
            uid=spec.UID,
            files={
                replication.SENTINEL_FILE: pulumi.Output.all(sentinel, peer).apply(
                    lambda each: replication.render_sentinel_conf(
                        address=address, sentinel_password=each[0], peer_password=each[1]
                    )
                ),
                "users.acl": _aclfile(passwords, redis_acl.SENTINEL_USERS),
                f"{redis_acl.MONITOR.name}.password": passwords.redis(redis_acl.MONITOR.name),
                **certificate_files(certificate, args.trust),
            },
            opts=child,
        )
        service = Service(
            what=what,
            image=self._image.image_id,
            uid=spec.UID,
            memory=replication.SENTINEL_MEMORY,
            pids=32,
            network=args.network,
            internal_port=replication.SENTINEL_PORT,
            external_port=None,
            volumes={
                spec.DATA_DIR: (data.name, True),
                spec.CONFIG_DIR: (config.name, False),
            },
            health=replication.SENTINEL_HEALTH,
            config_digest=files.digest,
            entrypoint=first.identity.apply(
                lambda identity: replication.sentinel_entrypoint(identity, first.address)
            ),
            address=address,
        )
        started = pulumi.ResourceOptions(depends_on=[files, *before])
        return make_container(
            checkout, stack, args.settings, service, pulumi.ResourceOptions.merge(child, started)
        ).healthy


def _aclfile(passwords: Passwords, users: Sequence[redis_acl.RedisUser]) -> pulumi.Output[str]:
    accepted: pulumi.Output[dict[str, tuple[str, ...]]] = pulumi.Output.all(**passwords.redis_accepted(users))
    return accepted.apply(lambda each: redis_acl.render_aclfile(each, users))


def _members(args: RedisArgs, opts: pulumi.ResourceOptions) -> list[_Member]:
    """Return the servers of a Redis with replicas, or none. The first one is the first primary."""
    settings = args.settings
    if not settings.redis_replicas:
        return []
    addresses = _addresses(args.leases, replication.FIRST_SERVER_ADDRESS, replication.SERVERS)
    identity = ReplicationId(opts).id.apply(lambda id_: f"{id_}-{addresses[0]}")
    buffer_bytes = replication.buffer_bytes(
        memory_bytes=parse_bytes(settings.redis_memory), maxmemory_bytes=parse_bytes(settings.redis_maxmemory)
    )
    return [
        _Member(address, addresses[0] if n else None, identity, buffer_bytes)
        for n, address in enumerate(addresses)
    ]


def _configuration(settings: StackSettings) -> str:
    return spec.render_conf(
        maxmemory_bytes=parse_bytes(settings.redis_maxmemory),
        eviction_policy=settings.redis_eviction_policy,
        persistence=settings.redis_persistence,
        maxclients=settings.redis_maxclients,
    )


def _addresses(leases: NetworkLeases, first: int, count: int) -> list[str]:
    subnet = IPv4Network(leases.subnet)
    if subnet.prefixlen > replication.LONGEST_PREFIX:
        raise SettingError(
            "groundwork:redisReplicas",
            f"the data network {subnet} is too small for the fixed addresses of the servers",
            f"set groundwork:networkSubnet to a subnet of /{replication.LONGEST_PREFIX} or larger, like 10.201.7.0/24",
        )
    return [str(subnet[first + n]) for n in range(count)]
