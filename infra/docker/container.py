"""How every container of a stack runs: hardened, bounded, health-gated, on the data network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_docker as docker_provider
from pulumi import dynamic

from infra.docker.engine import docker
from infra.docker.health import Healthy
from infra.dynamic import Provider
from infra.settings import StackSettings
from infra.spec.quantity import parse_bytes
from infra.spec.world import World

_MB = 1024 * 1024
STOP_SECONDS = 30


@dataclass(frozen=True)
class Service:
    """What one container is; what it may not do is the same for all of them."""

    what: str
    image: pulumi.Input[str]
    uid: int
    memory: str
    pids: int
    network: pulumi.Input[str]
    internal_port: int
    # None: reached from the data network alone.
    external_port: int | None
    # volume name -> path in the container; read-only unless in `writable`
    volumes: Mapping[str, tuple[pulumi.Input[str], bool]]
    health: Sequence[str]
    # Changes with what the container takes up only when it starts.
    config_digest: pulumi.Input[str]
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    shm_mb: int = 64
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Started:
    """A container that runs (`container`), and the same once it is healthy."""

    container: docker_provider.Container
    healthy: Healthy


def make_container(
    world: World,
    stack: str,
    settings: StackSettings,
    service: Service,
    opts: pulumi.ResourceOptions,
) -> Started:
    """The container of a service, and its being healthy as a resource of its own.

    uid not 0, no capabilities, no new privileges, read-only root, tmpfs for scratch, memory = memory+swap
    limit, pids limit, rotated logs, a port on 127.0.0.1 or none (docs/security.md, Containers).
    """
    megabytes = parse_bytes(service.memory) // _MB
    labels = world.labels(stack) | {"groundwork.service": service.what}
    container = docker_provider.Container(
        service.what,
        name=world.name(stack, service.what),
        hostname=service.what,
        image=service.image,
        command=list(service.command) or None,
        user=f"{service.uid}:{service.uid}",
        envs=[f"{key}={value}" for key, value in service.environment.items()],
        labels=[
            *(docker_provider.ContainerLabelArgs(label=k, value=v) for k, v in labels.items()),
            docker_provider.ContainerLabelArgs(label="groundwork.config", value=service.config_digest),
        ],
        networks_advanced=[
            docker_provider.ContainerNetworksAdvancedArgs(name=service.network, aliases=[service.what])
        ],
        # The engine's resolver would carry names, and so data, out of a network that has no way out.
        dns=["127.0.0.1"],
        ports=[
            docker_provider.ContainerPortArgs(
                internal=service.internal_port,
                external=port,
                ip="127.0.0.1",
            )
            for port in (service.external_port,)
            if port is not None
        ],
        volumes=[
            docker_provider.ContainerVolumeArgs(
                volume_name=volume, container_path=path, read_only=not writable
            )
            for path, (volume, writable) in service.volumes.items()
        ],
        read_only=True,
        tmpfs={"/tmp": "rw,noexec,nosuid,nodev,size=64m"} | dict(service.tmpfs),
        shm_size=service.shm_mb,
        capabilities=docker_provider.ContainerCapabilitiesArgs(drops=["ALL"]),
        security_opts=["no-new-privileges:true"],
        memory=megabytes,
        # Without it every preview shows a difference; equal means no swap.
        memory_swap=megabytes,
        log_driver="json-file",
        log_opts={
            "max-size": f"{parse_bytes(settings.log_max_size) // 1024}k",
            "max-file": str(settings.log_max_files),
        },
        healthcheck=docker_provider.ContainerHealthcheckArgs(
            tests=["CMD", *service.health],
            interval="2s",
            timeout="3s",
            retries=5,
            start_period="1m0s",
        ),
        restart="unless-stopped",
        must_run=True,
        # On removal the provider kills at once unless told to give time: data must reach the disk.
        destroy_grace_seconds=STOP_SECONDS,
        stop_timeout=STOP_SECONDS,
        opts=pulumi.ResourceOptions.merge(
            opts,
            # Name and port are taken until the old one is gone; the named volumes stay.
            pulumi.ResourceOptions(delete_before_replace=True),
        ),
    )
    PidsLimit(
        f"{service.what}-pids",
        container_id=container.id,
        limit=service.pids,
        opts=pulumi.ResourceOptions(parent=opts.parent, deleted_with=container),
    )
    healthy = Healthy(
        f"{service.what}-healthy",
        container=container.name,
        container_id=container.id,
        opts=pulumi.ResourceOptions(parent=opts.parent, deleted_with=container),
    )
    return Started(container, healthy)


class PidsLimitProvider(Provider):
    """Sets a running container's pids limit: the Docker provider has no such argument."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._apply(props)
        return dynamic.CreateResult(id_=props["container_id"][:12], outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._apply(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _apply(props: dict[str, Any]) -> None:
        docker("update", "--pids-limit", str(int(props["limit"])), props["container_id"])


class PidsLimit(dynamic.Resource):
    """The most processes and threads that a container may have; kept over restarts by the engine."""

    def __init__(
        self,
        name: str,
        *,
        container_id: pulumi.Input[str],
        limit: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            PidsLimitProvider(),
            name,
            {"container_id": container_id, "limit": limit},
            opts,
        )
