"""The settings of a stack in Docker on one machine, and their checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network

from infra.settings.checks import PRIVATE_NETWORKS, require_bytes, require_network, require_range
from infra.settings.declaration import DOCKER, full, setting
from infra.settings.shared import SharedSettings
from infra.spec.errors import SettingError
from infra.spec.monitoring import ETCD_JOB, JOBS, SENTINEL_JOB
from infra.spec.quantity import format_mb
from infra.spec.redis import MAXMEMORY_SHARE
from infra.spec.redis_replication import LONGEST_PREFIX, REPLICAS

# host:port, the form of Prometheus's targets. Docker Compose puts underscores into the names of containers.
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*:([0-9]{1,5})")
_docker = partial(setting, only=DOCKER)


@dataclass(frozen=True, kw_only=True)
class DockerSettings:
    """The settings that have an effect only on target docker."""

    network_subnet: str = _docker(
        "",
        "Subnet of the data network, for example 10.201.7.0/24; empty: a free one is chosen.",
    )
    postgres_port: int = _docker(
        0, "Port of Postgres on 127.0.0.1, with replicas also the next two; 0: free ones are chosen."
    )
    postgres_memory: str = _docker("1GB", "Memory limit of the Postgres container, at least 256MB.")
    backups: bool = _docker(
        True, "Archive WAL into the backup repository, from which `groundwork restore` restores."
    )
    backup_retention_full: int = _docker(2, "Number of full backups to keep, with all WAL since the oldest.")
    backup_full_days: int = _docker(7, "Days after which `groundwork backup` takes a full backup again.")
    backup_queue_max: str = _docker(
        "1GB",
        "Limit of WAL waiting to be archived; beyond it WAL is dropped, and restores have a gap.",
    )
    redis_port: int = _docker(
        0, "Port of Redis on 127.0.0.1, with replicas also the next two; 0: free ones are chosen."
    )
    redis_memory: str = _docker("256MB", "Memory limit of each Redis container, at least 64MB.")
    redis_maxmemory: str = _docker("160MB", "maxmemory of Redis, at most 75 % of redisMemory.")
    redis_maxclients: int = _docker(1000, "maxclients of Redis.")
    access_port: int = _docker(
        0, "Port of the access service on 127.0.0.1; 0: a free one is chosen once and kept."
    )
    access_memory: str = _docker("256MB", "Memory limit of the access container, at least 128MB.")
    monitoring: bool = _docker(False, "Run Prometheus, and exporters for Postgres and Redis.")
    monitoring_targets: dict[str, str] = setting(
        {},
        "Additional targets for Prometheus: job -> host:port, ... of containers in the data network.",
        only=DOCKER,
    )
    prometheus_port: int = _docker(
        0, "Port of Prometheus on 127.0.0.1; 0: a free one is chosen once and kept."
    )
    prometheus_memory: str = _docker("256MB", "Memory limit of the Prometheus container, at least 128MB.")
    prometheus_retention: str = _docker("15d", "How long Prometheus keeps metrics, like 36h or 15d.")
    prometheus_disk: str = _docker(
        "1GB", "Disk space for metrics, at least 256MB; beyond it Prometheus deletes the oldest."
    )
    allow_chaos: bool = _docker(
        False, "Allow `groundwork chaos` to break this stack's servers; never for production (docs/chaos.md)."
    )
    log_max_size: str = _docker("10MB", "Size at which a container's log is rotated.")
    log_max_files: int = _docker(3, "Number of log files to keep for each container.")


@dataclass(frozen=True, kw_only=True)
class DockerTargetSettings(DockerSettings, SharedSettings):
    """All settings that have an effect on target docker."""


def check(settings: DockerTargetSettings) -> None:
    """Raise SettingError for the first of these settings that is not valid on Docker."""
    _check_subnet(settings)
    _check_ports(settings)
    _check_memory(settings)
    _check_monitoring(settings)
    _check_redis_replicas(settings)
    require_range("redisMaxclients", settings.redis_maxclients, 10, 100_000)
    require_range("backupRetentionFull", settings.backup_retention_full, 1, 1000)
    require_range("backupFullDays", settings.backup_full_days, 1, 365)
    require_bytes("backupQueueMax", settings.backup_queue_max, "64MB")
    require_range("logMaxFiles", settings.log_max_files, 1, 100)
    require_bytes("logMaxSize", settings.log_max_size, "1MB")


def _check_subnet(settings: DockerTargetSettings) -> None:
    if not settings.network_subnet:
        return
    subnet = require_network("networkSubnet", settings.network_subnet, "10.201.7.0/24")
    if not any(subnet.subnet_of(each) for each in PRIVATE_NETWORKS):
        raise SettingError(
            full("networkSubnet"),
            f"{subnet} is not a private subnet",
            "use a part of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, like 10.201.7.0/24",
        )
    if subnet.prefixlen > 28:
        raise SettingError(
            full("networkSubnet"),
            f"{subnet} is smaller than 16 addresses",
            "use a subnet of /28 or larger, like 10.201.7.0/24",
        )


def named_ports(settings: DockerTargetSettings) -> dict[str, tuple[str, int]]:
    """Return the setting and the port of each service whose port a setting names.

    With replicas, `postgres_2` and `postgres_3` have the next two ports after `postgres`. The same applies to Redis.
    """
    services = {
        "postgres": ("postgresPort", settings.postgres_port, settings.postgres_replicas),
        "redis": ("redisPort", settings.redis_port, settings.redis_replicas),
        "access": ("accessPort", settings.access_port, 0),
        "prometheus": ("prometheusPort", settings.prometheus_port, 0),
    }
    found: dict[str, tuple[str, int]] = {}
    for service, (key, port, replicas) in services.items():
        if port:
            found[service] = key, port
            for n in range(1, 1 + (REPLICAS if replicas else 0)):
                found[f"{service}_{n + 1}"] = key, port + n
    return found


def _check_ports(settings: DockerTargetSettings) -> None:
    ports = named_ports(settings)
    taken: dict[int, str] = {}
    for service, (key, port) in ports.items():
        if service.partition("_")[0] == service:
            last = 65535 - REPLICAS if f"{service}_2" in ports else 65535
            require_range(key, port, 1024, last, "or 0 to choose a free one")
        if port in taken:
            raise SettingError(
                full(key),
                f"{port} is already used by {full(taken[port])}",
                "set different ports; with replicas, a stack also uses the next two",
            )
        taken[port] = key


def _check_memory(settings: DockerTargetSettings) -> None:
    require_bytes("postgresMemory", settings.postgres_memory, "256MB")
    require_bytes("accessMemory", settings.access_memory, "128MB")
    require_bytes("prometheusMemory", settings.prometheus_memory, "128MB")
    require_bytes("prometheusDisk", settings.prometheus_disk, "256MB")
    limit = require_bytes("redisMemory", settings.redis_memory, "64MB")
    maxmemory = require_bytes("redisMaxmemory", settings.redis_maxmemory, "1MB")
    most = int(limit * MAXMEMORY_SHARE)
    if maxmemory > most:
        raise SettingError(
            full("redisMaxmemory"),
            f"{settings.redis_maxmemory} is more than 75 % of redisMemory ({settings.redis_memory})",
            f"set it to at most {format_mb(most)}, or raise {full('redisMemory')}",
        )


def _check_redis_replicas(settings: DockerTargetSettings) -> None:
    if settings.redis_replicas == 0:
        return
    if settings.redis_replicas != REPLICAS:
        raise SettingError(
            full("redisReplicas"),
            f"{settings.redis_replicas} is not supported; with one replica, its loss would stop all writes",
            f"set it to 0 or {REPLICAS}",
        )
    if settings.network_subnet and ip_network(settings.network_subnet).prefixlen > LONGEST_PREFIX:
        raise SettingError(
            full("networkSubnet"),
            f"{settings.network_subnet} is too small for {full('redisReplicas')}, whose servers have fixed addresses",
            f"use a subnet of /{LONGEST_PREFIX} or larger, like 10.201.7.0/24",
        )


def _check_monitoring(settings: DockerTargetSettings) -> None:
    if not re.fullmatch(r"[1-9][0-9]{0,4}[hdwy]", settings.prometheus_retention):
        raise SettingError(
            full("prometheusRetention"),
            f"{settings.prometheus_retention!r} is not a duration",
            "write hours, days, weeks or years, like 36h or 15d",
        )
    reserved = list(JOBS)
    reserved += [ETCD_JOB] if settings.postgres_replicas else []
    reserved += [SENTINEL_JOB] if settings.redis_replicas else []
    for job, targets in settings.monitoring_targets.items():
        if job in reserved or not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", job):
            raise SettingError(
                full("monitoringTargets"),
                f"{job!r} is not a valid job name, or is reserved",
                f"use a-z, 0-9, - and _, and none of {', '.join(reserved)}",
            )
        for target in map(str.strip, targets.split(",")):
            parts = _TARGET.fullmatch(target)
            if parts is None or not 1 <= int(parts[1]) <= 65535:
                raise SettingError(
                    full("monitoringTargets"),
                    f"{target!r} of job {job} is not host:port with a port from 1 to 65535",
                    "write targets like app-1:9000,app-2:9000",
                )
