"""Checks of the settings of a stack in Docker with replicas."""

from __future__ import annotations

from ipaddress import IPv4Network

from infra.settings.declaration import full
from infra.settings.docker import DockerTargetSettings
from infra.spec import postgres_cluster
from infra.spec.errors import SettingError


def check(settings: DockerTargetSettings) -> None:
    """Raise SettingError for the first setting that is not valid with replicas."""
    key = full("postgresReplicas")
    if settings.postgres_replicas not in (0, postgres_cluster.REPLICAS):
        raise SettingError(
            key,
            f"{settings.postgres_replicas} is not a supported number of replicas",
            f"set it to 0, or to {postgres_cluster.REPLICAS}: three servers, of which one may fail",
        )
    if not settings.postgres_replicas:
        return
    longest = postgres_cluster.LONGEST_PREFIX
    if settings.network_subnet and IPv4Network(settings.network_subnet).prefixlen > longest:
        raise SettingError(
            full("networkSubnet"),
            f"{settings.network_subnet} is too small for the addresses of the replicas",
            f"use a subnet of /{longest} or larger, or set {key} to 0",
        )
    if settings.postgres_max_connections < postgres_cluster.FEWEST_CONNECTIONS:
        raise SettingError(
            full("postgresMaxConnections"),
            f"{settings.postgres_max_connections} is too few for a server with replicas",
            f"use {postgres_cluster.FEWEST_CONNECTIONS} or more, or set {key} to 0",
        )
    for name in settings.postgres_parameters:
        if name in postgres_cluster.REFUSED_PARAMETERS:
            raise SettingError(
                full("postgresParameters"),
                f"{name} is set by groundwork on a server with replicas",
                f"remove it, or set {key} to 0",
            )
