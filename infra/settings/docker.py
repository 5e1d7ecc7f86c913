"""The settings of a stack in Docker on one machine, and their checks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from infra.settings.checks import require_bytes, require_network, require_range
from infra.settings.declaration import DOCKER, full, setting
from infra.spec.errors import SettingError
from infra.spec.monitoring import JOBS
from infra.spec.quantity import format_mb
from infra.spec.redis import MAXMEMORY_SHARE

# host:port, as Prometheus takes a target
_TARGET = r"[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}"
_docker = partial(setting, only=DOCKER)


@dataclass(frozen=True, kw_only=True)
class DockerSettings:
    """What only the target docker renders."""

    network_subnet: str = _docker(
        "",
        "Subnet of the data network, for example 10.201.7.0/24; empty: one that is free here.",
    )
    postgres_port: int = _docker(0, "Port of Postgres on 127.0.0.1; 0: one that is free, and kept.")
    postgres_memory: str = _docker("1GB", "Memory limit of the Postgres container, 256MB at least.")
    backups: bool = _docker(
        True, "Archive Postgres's WAL into a repository of its own, from which `groundwork restore` restores."
    )
    backup_retention_full: int = _docker(2, "How many full backups are kept, with the WAL since the oldest.")
    backup_full_days: int = _docker(7, "Age in days at which the next `groundwork backup` is a full one.")
    backup_queue_max: str = _docker(
        "1GB",
        "WAL that waits where it cannot be archived; beyond it WAL is given up, and restores have a gap.",
    )
    redis_port: int = _docker(0, "Port of Redis on 127.0.0.1; 0: one that is free, and kept.")
    redis_memory: str = _docker("256MB", "Memory limit of the Redis container, 64MB at least.")
    redis_maxmemory: str = _docker("160MB", "maxmemory of Redis, at most 75 % of redisMemory.")
    redis_maxclients: int = _docker(1000, "maxclients of Redis.")
    access_port: int = _docker(0, "Port of the access service on 127.0.0.1; 0: one that is free, and kept.")
    access_memory: str = _docker("256MB", "Memory limit of the access container, 128MB at least.")
    monitoring: bool = _docker(
        False, "Run Prometheus and the exporters of Postgres and Redis beside the stack."
    )
    monitoring_targets: dict[str, str] = setting(
        {},
        "More that Prometheus scrapes: job -> host:port, ... of containers in the data network.",
        only=DOCKER,
    )
    prometheus_port: int = _docker(0, "Port of Prometheus on 127.0.0.1; 0: one that is free, and kept.")
    prometheus_memory: str = _docker("256MB", "Memory limit of the Prometheus container, 128MB at least.")
    prometheus_retention: str = _docker("15d", "How long Prometheus keeps what it measured, like 36h or 15d.")
    prometheus_disk: str = _docker(
        "1GB", "Disk that Prometheus fills before the oldest goes, 256MB at least."
    )
    log_max_size: str = _docker("10MB", "Size at which a container's log is rotated.")
    log_max_files: int = _docker(3, "How many rotated logs of a container are kept.")


def check(settings: DockerSettings) -> None:
    """SettingError for the first of these settings that Docker cannot render."""
    _check_subnet(settings)
    _check_ports(settings)
    _check_memory(settings)
    _check_monitoring(settings)
    require_range("redisMaxclients", settings.redis_maxclients, 10, 100_000)
    require_range("backupRetentionFull", settings.backup_retention_full, 1, 1000)
    require_range("backupFullDays", settings.backup_full_days, 1, 365)
    require_bytes("backupQueueMax", settings.backup_queue_max, "64MB")
    require_range("logMaxFiles", settings.log_max_files, 1, 100)
    require_bytes("logMaxSize", settings.log_max_size, "1MB")


def _check_subnet(settings: DockerSettings) -> None:
    if not settings.network_subnet:
        return
    subnet = require_network("networkSubnet", settings.network_subnet, "10.201.7.0/24")
    if not subnet.is_private or subnet.prefixlen > 28:
        raise SettingError(
            full("networkSubnet"),
            f"{subnet} is public or smaller than 16 addresses",
            "take a private subnet of /28 or larger, like 10.201.7.0/24",
        )


def _check_ports(settings: DockerSettings) -> None:
    ports = {
        "postgresPort": settings.postgres_port,
        "redisPort": settings.redis_port,
        "accessPort": settings.access_port,
        "prometheusPort": settings.prometheus_port,
    }
    taken: dict[int, str] = {}
    for key, port in ports.items():
        if port != 0:
            require_range(key, port, 1024, 65535, "or 0 to have a free one picked")
            if port in taken:
                raise SettingError(
                    full(key),
                    f"{port} is {full(taken[port])} already",
                    "give each its own port",
                )
            taken[port] = key


def _check_memory(settings: DockerSettings) -> None:
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
            f"set it to {format_mb(most)} at most, or raise {full('redisMemory')}",
        )


def _check_monitoring(settings: DockerSettings) -> None:
    if not re.fullmatch(r"[1-9][0-9]{0,4}[hdwy]", settings.prometheus_retention):
        raise SettingError(
            full("prometheusRetention"),
            f"{settings.prometheus_retention!r} is no length of time",
            "write hours, days, weeks or years, like 36h or 15d",
        )
    for job, targets in settings.monitoring_targets.items():
        if job in JOBS or not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", job):
            raise SettingError(
                full("monitoringTargets"),
                f"{job!r} is no free name of a job",
                f"write a-z, 0-9, - and _, and none of {', '.join(JOBS)}",
            )
        if not re.fullmatch(rf"{_TARGET}(\s*,\s*{_TARGET})*", targets):
            raise SettingError(
                full("monitoringTargets"),
                f"{targets!r} of job {job} is no list of host:port",
                "write it like app-1:9000,app-2:9000",
            )
