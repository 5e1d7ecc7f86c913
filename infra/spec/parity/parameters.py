"""What the servers' parameters are on the two targets, by the specifications of both."""

from __future__ import annotations

from infra.spec import backup, elasticache, postgres, rds, redis
from infra.spec.parity.entry import NONE, Parity, same

# Why RDS has no value of ours for a parameter that the container has.
_OWN_OF_RDS: dict[str, str] = {
    "listen_addresses": "RDS owns the addresses; security groups decide who gets there",
    "port": "set on the instance: 15432, for 5432 is tried by everybody",
    "unix_socket_directories": "nobody gets onto the instance",
    "ssl": "always on; `rds.force_ssl` refuses what comes without",
    "ssl_cert_file": "RDS's own certificate, by `rds-ca-rsa2048-g1`",
    "ssl_key_file": "RDS's own key",
    "log_destination": "RDS writes files of its own, exported to CloudWatch Logs",
    "logging_collector": "RDS writes files of its own, exported to CloudWatch Logs",
    "log_timezone": "fixed to UTC by RDS",
    "log_line_prefix": "`%t:%r:%u@%d:[%p]:`, which whatever reads RDS's logs expects",
    "superuser_reserved_connections": "RDS's superuser is RDS's; 3 besides two of its own",
    "fsync": "fixed to on by RDS",
    "full_page_writes": "fixed to on by RDS",
    "effective_io_concurrency": "RDS knows its own disks",
    "wal_compression": "RDS knows its own disks",
}

_REDIS_ON_AWS: dict[str, tuple[str, str]] = {
    "bind": ("the nodes' own", "ElastiCache owns the addresses"),
    "port": ("none but TLS's", "`transitEncryptionMode: required` closes the plain port"),
    "tls-port": ("6379", "set on the replication group"),
    "tls-cert-file": ("ElastiCache's", "its certificates are Amazon's, which the system's authorities know"),
    "tls-key-file": ("ElastiCache's", "its certificates are Amazon's"),
    "tls-ca-cert-file": (NONE, "clients prove themselves by a token"),
    "tls-auth-clients": ("no", "fixed by ElastiCache"),
    "tls-protocols": ("1.2 and newer", "fixed by ElastiCache"),
    "aclfile": ("users and a user group of the same source", "ElastiCache has an API for users, and no file"),
    "dir": (NONE, "ElastiCache owns the disk"),
    "maxmemory": ("by node type, less `reserved-memory-percent`", "fixed by ElastiCache"),
    "maxclients": ("65000, of small nodes less", "fixed by ElastiCache"),
    "enable-debug-command": ("no", "ElastiCache restricts DEBUG"),
    "enable-module-command": ("no", "ElastiCache restricts MODULE"),
    "enable-protected-configs": ("no", "ElastiCache restricts CONFIG"),
    "save": ("daily snapshots", "ElastiCache snapshots by a window, from a replica"),
    "appendonly": ("no", "ElastiCache has no AOF from Redis 2.8.22 on"),
    "appendfsync": (NONE, "ElastiCache has no AOF from Redis 2.8.22 on"),
}


def postgres_parameters() -> dict[str, Parity]:
    """Each parameter of the container or of RDS's parameter group."""
    archiving = backup.archive_parameters()
    on_docker = postgres.parameters(1024**3, 100) | archiving
    on_aws = rds.parameters(1024**3, 100)
    found: dict[str, Parity] = {}
    for name in sorted({*on_docker, *on_aws}):
        fixed = name in postgres.FIXED_PARAMETERS
        ours = f"`{on_docker[name]}`" if fixed and name in on_docker else "derived, or a setting"
        if name in rds.OWN_OF_RDS:
            found[name] = Parity(ours, "RDS's own", _OWN_OF_RDS[name])
        elif name in archiving:
            found[name] = Parity("pgBackRest's, with `backups`", "RDS's own", "RDS archives WAL itself")
        elif name not in on_docker:
            found[name] = Parity(
                "`hostssl` alone in pg_hba.conf", f"`{on_aws[name]}`", "RDS has no pg_hba.conf of ours"
            )
        else:
            found[name] = same(ours)
    return found


def redis_parameters() -> dict[str, Parity]:
    """Each directive of redis.conf or of ElastiCache's parameter group."""
    on_docker: dict[str, str] = {}
    for persistence in redis.PERSISTENCE:
        on_docker |= redis.configuration(
            maxmemory_bytes=1, eviction_policy="allkeys-lfu", persistence=persistence
        )
    on_aws = elasticache.parameters(eviction_policy="allkeys-lfu", reserved_percent=25)
    found: dict[str, Parity] = {}
    for name in sorted({*on_docker, *on_aws}):
        if name in _REDIS_ON_AWS:
            aws, why = _REDIS_ON_AWS[name]
            found[name] = Parity(_redis_value(name, on_docker[name]), aws, why)
        elif name not in on_docker:
            found[name] = Parity(
                "25 % or more, by `redisMaxmemory`",
                "`awsRedisReservedPercent`",
                "two ways to say the same share",
            )
        elif name not in on_aws:
            raise KeyError(name)
        else:
            found[name] = same(_redis_value(name, on_docker[name]))
    return found


def _redis_value(name: str, value: str) -> str:
    is_set = name in ("maxmemory", "maxmemory-policy", "maxclients", "save", "appendonly", "appendfsync")
    return "a setting" if is_set else f"`{value.strip(chr(34))}`"
