"""The common definition of a stack's containers: hardening, resource limits, health check, data network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic

from infra.credentials import ServerCertificate, Trust
from infra.docker import ownership
from infra.docker.engine import MOST_STOP_SECONDS, docker
from infra.docker.health import Healthy
from infra.dynamic import Provider
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from infra.spec.quantity import parse_bytes

if TYPE_CHECKING:
    import pulumi_docker as docker_provider

# Nothing listens there, so that no query leaves the network.
RESOLVER = "127.0.0.1"
# Docker 20.10 does not answer a query for the name of a stopped container. By default a lookup then takes 20 s, longer
# than a scrape, a health check or a caller's time limit.
RESOLVER_OPTIONS = ("timeout:1", "attempts:2")
_MB = 1024 * 1024
# The time that a container gets to stop. Postgres and Redis write up to their memory to the disk, at 50 MB/s or more.
STOP_SECONDS, _STOPPED_MB_PER_SECOND = 30, 50
# Each check starts a process, and a stack may be idle all day, so checks are infrequent. A check waits up to 3 s for an
# answer, so a single failure already makes the container unhealthy. A change shows within interval plus timeout: 30 s.
CHECK_INTERVAL_SECONDS, CHECK_TIMEOUT_SECONDS = 25, 5


@dataclass(frozen=True)
class Service:
    """The settings that differ between containers. The restrictions are the same for all of them."""

    what: str
    image: pulumi.Input[str]
    uid: int
    memory: str
    pids: int
    network: pulumi.Input[str]
    internal_port: int
    # The port on 127.0.0.1, or None if the service is reached only from the data network.
    external_port: int | None
    # Path in the container -> (name of the volume, whether it is writable).
    volumes: Mapping[str, tuple[pulumi.Input[str], bool]]
    health: Sequence[str]
    # Changes when a file changes that the container reads only at its start; the container is then replaced.
    config_digest: pulumi.Input[str]
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    shm_mb: int = 64
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    # Replaces the image's.
    entrypoint: pulumi.Input[Sequence[str]] | None = None
    # The address in the data network, or None for any free one.
    address: str | None = None
    # Between SIGTERM and SIGKILL.
    stop_seconds: int = STOP_SECONDS


@dataclass(frozen=True, kw_only=True)
class ServiceArgs:
    """The arguments that every component with containers takes. `port` is the port on 127.0.0.1."""

    checkout: Checkout
    stack: str
    settings: StackSettings
    network: pulumi.Input[str]
    port: int
    trust: Trust


@dataclass(frozen=True)
class Started:
    """A running container (`container`), and a resource that resolves once it is healthy (`healthy`)."""

    container: docker_provider.Container
    healthy: Healthy


def server_certificate(
    service: str,
    args: ServiceArgs,
    opts: pulumi.ResourceOptions,
    address: str | None = None,
    *,
    for_clients: bool = False,
) -> ServerCertificate:
    """Declare the certificate of a server, for its names on this machine and in the data network, and its address.

    With `for_clients` the server can present it as a client too. Its common name is then the service, by which other
    servers recognize it.
    """
    names = ["localhost", "127.0.0.1", service, args.checkout.name(args.stack, service)]
    names += [address] if address else []
    if for_clients:
        names = [service, *(name for name in names if name != service)]
    return ServerCertificate(f"{service}-certificate", args.trust, names, opts, for_clients=for_clients)


def certificate_files(certificate: ServerCertificate, trust: Trust) -> dict[str, pulumi.Input[str]]:
    """Return the files of a server that presents a certificate and trusts the stack's authorities."""
    return {
        "server.crt": certificate.certificate,
        "server.key": certificate.private_key,
        "ca.crt": trust.bundle,
    }


def make_container(
    checkout: Checkout,
    stack: str,
    settings: StackSettings,
    service: Service,
    opts: pulumi.ResourceOptions,
) -> Started:
    """Create a service's container, and a separate resource for its health.

    The container has a uid other than 0, no capabilities, no new privileges, a read-only root file system with a tmpfs
    for /tmp, a memory limit without swap, a pids limit, rotated logs, and at most a port on 127.0.0.1 (see
    docs/security.md, Containers).
    """
    # Not at the top: Pulumi's process for the dynamic providers imports this module, but declares no container.
    import pulumi_docker as docker_provider

    megabytes = parse_bytes(service.memory) // _MB
    labels = ownership.labels(checkout, stack) | {"groundwork.service": service.what}
    container = docker_provider.Container(
        service.what,
        name=checkout.name(stack, service.what),
        hostname=service.what,
        image=service.image,
        entrypoints=service.entrypoint,
        command=list(service.command) or None,
        user=f"{service.uid}:{service.uid}",
        envs=[f"{key}={value}" for key, value in service.environment.items()],
        labels=[
            *(docker_provider.ContainerLabelArgs(label=k, value=v) for k, v in labels.items()),
            docker_provider.ContainerLabelArgs(label="groundwork.config", value=service.config_digest),
        ],
        networks_advanced=[
            docker_provider.ContainerNetworksAdvancedArgs(
                name=service.network, aliases=[service.what], ipv4_address=service.address
            )
        ],
        # The engine's resolver would forward queries, and data encoded in names, out of the isolated network.
        dns=[RESOLVER],
        dns_opts=list(RESOLVER_OPTIONS),
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
        security_opts=["no-new-privileges=true"],
        memory=megabytes,
        # Equal to the memory limit means no swap. Without a value every preview would show a difference.
        memory_swap=megabytes,
        log_driver="json-file",
        log_opts={
            "max-size": f"{parse_bytes(settings.log_max_size) // 1024}k",
            "max-file": str(settings.log_max_files),
        },
        healthcheck=docker_provider.ContainerHealthcheckArgs(
            tests=["CMD", *service.health],
            interval=f"{CHECK_INTERVAL_SECONDS}s",
            timeout=f"{CHECK_TIMEOUT_SECONDS}s",
            retries=1,
            start_period="1m0s",
        ),
        restart="unless-stopped",
        must_run=True,
        # By default the provider kills a container that it removes. A server needs time to write its data to the disk.
        destroy_grace_seconds=service.stop_seconds,
        stop_timeout=service.stop_seconds,
        opts=pulumi.ResourceOptions.merge(
            opts,
            # The new container needs the old one's name and port. The named volumes are kept.
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


def stop_seconds(memory: str) -> int:
    """Return the time that a server with this memory limit gets to write its data to the disk when it stops."""
    return min(max(STOP_SECONDS, parse_bytes(memory) // _MB // _STOPPED_MB_PER_SECOND), MOST_STOP_SECONDS)


def service_digest(service: Service, settings: StackSettings) -> pulumi.Output[str]:
    """Return a digest of what a container is created with. It changes when a change replaces the container."""
    fixed = [
        *(service.what, service.uid, service.memory, service.internal_port, service.external_port),
        *(sorted(service.volumes), list(service.health), service.address, list(service.command)),
        *(sorted(service.environment.items()), sorted(service.tmpfs.items()), service.shm_mb),
        *(settings.log_max_size, settings.log_max_files),
    ]
    # Left out where it is the default, so that the digests of small servers stay the same.
    fixed += [service.stop_seconds] if service.stop_seconds != STOP_SECONDS else []
    resolved: pulumi.Output[list[Any]] = pulumi.Output.all(
        service.image, service.network, service.config_digest, service.entrypoint
    )
    return resolved.apply(
        lambda values: hashlib.sha256(json.dumps([fixed, values]).encode()).hexdigest()[:16]
    )


class PidsLimitProvider(Provider):
    """Sets a running container's pids limit, because the Docker provider has no argument for it."""

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
    """The maximum number of processes and threads of a container. The engine keeps it across restarts."""

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
