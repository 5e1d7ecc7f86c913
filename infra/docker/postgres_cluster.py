"""Postgres with replicas: three servers under Patroni, and three members of etcd, each in a container.

The first server has the names, volumes and resources of a single server (infra.docker.postgres), so that turning the
replicas on and off keeps its data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pulumi

from infra.docker.checked_parameters import check_parameters
from infra.docker.container import (
    Service,
    ServiceArgs,
    Started,
    certificate_files,
    make_container,
    server_certificate,
)
from infra.docker.files import VolumeFiles, restart_digest
from infra.docker.image import Image
from infra.docker.members import ClusterState
from infra.docker.patroni_settings import PatroniSettings
from infra.docker.postgres import (
    PostgresComponent,
    Server,
    make_repository,
    make_server,
    server_parameters,
    single_configuration,
)
from infra.docker.volume import make_volume
from infra.images.context import image_context
from infra.settings import StackSettings
from infra.spec import etcd
from infra.spec import postgres as server_spec
from infra.spec import postgres_cluster as spec

# Patroni reads its file again and reloads its certificate; Postgres too. tini, process 1, passes the signal on.
_RELOAD = ("sh", "-c", "kill -HUP 1")


@dataclass(frozen=True, kw_only=True)
class PostgresClusterArgs(ServiceArgs):
    """`ports` are the members' ports on 127.0.0.1, and `state` is what runs before this `up`."""

    subnet: str
    ports: Mapping[str, int]
    state: ClusterState


class PostgresCluster(PostgresComponent):
    """A running cluster: a primary, and replicas that stream from it.

    The attributes describe the first member. `container_names` has all members and etcd's.
    """

    def __init__(
        self, name: str, args: PostgresClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        child = pulumi.ResourceOptions(parent=self)
        stores = spec.addresses(args.subnet, etcd.MEMBERS, etcd.FIRST_ADDRESS)
        started = _make_stores(args, stores, child)
        image = Image(image_context(args.checkout, "patroni", args.settings.image_refresh), child)
        repository = make_repository(args, child)
        dynamic = shared_settings(args.settings)
        own = spec.addresses(args.subnet, spec.MEMBERS, spec.FIRST_ADDRESS)
        authorities = spec.authorities_file(args.trust.accepted)
        configuration = single_configuration(args.settings)
        checks = check_parameters(args.settings, image.image_id, configuration["postgresql.conf"], child)
        servers: dict[str, Server] = {}
        before: list[pulumi.Resource] = [each.healthy for each in started.values()]
        for member in args.state.order():
            bare = spec.render_member(member, own[member], stores)
            is_first = member == spec.MEMBERS[0]
            servers[member] = make_server(
                replace(args, port=args.ports[member]),
                member,
                image=image,
                repository=repository,
                files={
                    # The temporary server of a drill uses these two.
                    **configuration,
                    "replicator.sql": spec.replicator_sql(),
                    "patroni.yml": spec.render_member(
                        member,
                        own[member],
                        stores,
                        authorities=authorities,
                        first=dynamic if is_first else None,
                    ),
                    authorities: args.trust.bundle,
                },
                # The other settings are changed in etcd, without a restart of the container.
                restart_on=[bare],
                reload=_RELOAD,
                opts=child,
                address=own[member],
                more_pids=64 + spec.PIDS,
                starts_after=before,
                checks=checks,
            )
            # One after the other: the next server stops when this one streams, or is the primary. After `down` they
            # start together, because any of them may have been the primary, and the others wait for it.
            if args.state.exists:
                before = [*before, servers[member].started.healthy]
        PatroniSettings(
            "postgres-settings",
            container=servers[spec.MEMBERS[0]].started.healthy.container,
            configuration=json.dumps(dynamic, sort_keys=True),
            opts=pulumi.ResourceOptions.merge(
                child,
                pulumi.ResourceOptions(depends_on=[server.started.healthy for server in servers.values()]),
            ),
        )
        self.container_names = {
            name: each.healthy.container
            for name, each in (
                *((member, servers[member].started) for member in spec.MEMBERS),
                *started.items(),
            )
        }
        self._describe(servers[spec.MEMBERS[0]], repository, image)


def shared_settings(settings: StackSettings) -> dict[str, Any]:
    """Return the settings that the members of a stack share in etcd."""
    return spec.dynamic_configuration(server_parameters(settings), has_archive=settings.backups)


def _make_stores(
    args: PostgresClusterArgs, addresses: Mapping[str, str], opts: pulumi.ResourceOptions
) -> dict[str, Started]:
    """Declare the members of etcd. If a majority exists, a change replaces them one after the other."""
    image = Image(image_context(args.checkout, "etcd", args.settings.image_refresh), opts)
    found: dict[str, Started] = {}
    before: list[pulumi.Resource] = []
    for member, address in addresses.items():
        data = make_volume(args.checkout, args.stack, f"{member}-data", opts)
        config = make_volume(args.checkout, args.stack, f"{member}-config", opts)
        certificate = server_certificate(member, args, opts, address, for_clients=True)
        configuration = etcd.render_conf(member, addresses)
        files = VolumeFiles(
            f"{member}-files",
            volume=config.name,
            image=image.image_id,
            uid=etcd.UID,
            files={"etcd.yml": configuration, **certificate_files(certificate, args.trust)},
            opts=opts,
        )
        found[member] = make_container(
            args.checkout,
            args.stack,
            args.settings,
            Service(
                what=member,
                image=image.image_id,
                uid=etcd.UID,
                memory=etcd.MEMORY,
                pids=64,
                network=args.network,
                internal_port=etcd.CLIENT_PORT,
                external_port=None,
                volumes={
                    etcd.DATA_DIR: (data.name, True),
                    server_spec.CONFIG_DIR: (config.name, False),
                },
                health=["groundwork-health"],
                # etcd reads certificates again for each connection, but the authorities only at its start.
                config_digest=pulumi.Output.all(restart_digest([configuration]), args.trust.bundle).apply(
                    _digest
                ),
                address=address,
            ),
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[files, *before])),
        )
        # Without a majority, no member becomes healthy before another one.
        if args.state.has_stores:
            before = [*before, found[member].healthy]
    return found


def _digest(texts: list[Any]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
