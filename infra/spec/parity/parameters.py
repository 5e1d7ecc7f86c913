"""The servers' parameters on the two targets, derived from both specifications."""

from __future__ import annotations

from infra.spec import backup, elasticache, postgres, rds, redis
from infra.spec.parity.entry import NONE, Parity, same

# The reasons why groundwork does not set a parameter on RDS that it sets in the container.
_OWN_OF_RDS: dict[str, str] = {
    "listen_addresses": "RDS manages the addresses; security groups control access",
    "port": "set on the instance: 15432, because attackers try 5432 first",
    "unix_socket_directories": "the instance's file system is not accessible",
    "ssl": "always on; `rds.force_ssl` rejects connections without TLS",
    "ssl_cert_file": "RDS's own certificate, signed by `rds-ca-rsa2048-g1`",
    "ssl_key_file": "RDS's own key",
    "log_destination": "RDS writes its own log files and exports them to CloudWatch Logs",
    "logging_collector": "RDS writes its own log files and exports them to CloudWatch Logs",
    "log_timezone": "fixed to UTC by RDS",
    "ssl_ciphers": "as RDS's engine version has them",
    "log_line_prefix": "`%t:%r:%u@%d:[%p]:`, which log tools for RDS expect",
    "superuser_reserved_connections": "only RDS has superuser access; 3, and two more for RDS itself",
    "fsync": "fixed to on by RDS",
    "full_page_writes": "fixed to on by RDS",
    "effective_io_concurrency": "RDS tunes this for its own disks",
    "wal_compression": "RDS tunes this for its own disks",
}

_REDIS_ON_AWS: dict[str, tuple[str, str]] = {
    "bind": ("the nodes' addresses", "ElastiCache manages the addresses"),
    "port": ("only the TLS port", "`transitEncryptionMode: required` closes the plain port"),
    "tls-port": ("6379", "set on the replication group"),
    "tls-cert-file": ("ElastiCache's", "Amazon's public authorities sign the certificates"),
    "tls-key-file": ("ElastiCache's", "Amazon's public authorities sign the certificates"),
    "tls-ca-cert-file": (NONE, "clients authenticate with a token"),
    "tls-auth-clients": ("no", "fixed by ElastiCache"),
    "tls-protocols": ("1.2 and newer", "fixed by ElastiCache"),
    "tls-ciphers": ("ElastiCache's own", "fixed by ElastiCache"),
    "aclfile": (
        "users and a user group from the same source",
        "ElastiCache has an API for users, not a file",
    ),
    "dir": (NONE, "ElastiCache manages the disk"),
    "maxmemory": ("by node type, minus `reserved-memory-percent`", "fixed by ElastiCache"),
    "maxmemory-clients": (NONE, "AWS's list of parameters does not have it"),
    "maxclients": ("65000, fewer on small nodes", "fixed by ElastiCache"),
    **dict.fromkeys(
        redis.KEPT_OF_CLIENTS,
        (
            "ElastiCache's default",
            "not tried on AWS, where a node has a reserve of memory beside `maxmemory`",
        ),
    ),
    "enable-debug-command": ("no", "ElastiCache restricts DEBUG"),
    "enable-module-command": ("no", "ElastiCache restricts MODULE"),
    "enable-protected-configs": ("no", "ElastiCache restricts CONFIG"),
    "save": ("daily snapshots", "ElastiCache takes snapshots in a daily window, from a replica"),
    "appendonly": ("no", "ElastiCache does not support AOF since Redis 2.8.22"),
    "appendfsync": (NONE, "ElastiCache does not support AOF since Redis 2.8.22"),
}


def postgres_parameters() -> dict[str, Parity]:
    """Return an entry for each parameter of the container or of RDS's parameter group."""
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
            found[name] = Parity("for pgBackRest, with `backups`", "RDS's own", "RDS archives WAL itself")
        elif name not in on_docker:
            found[name] = Parity(
                "only `hostssl` in pg_hba.conf", f"`{on_aws[name]}`", "pg_hba.conf cannot be changed on RDS"
            )
        else:
            found[name] = same(ours)
    return found


def redis_parameters() -> dict[str, Parity]:
    """Return an entry for each directive of redis.conf or of ElastiCache's parameter group."""
    on_docker: dict[str, str] = {}
    for persistence in redis.PERSISTENCE:
        on_docker |= redis.configuration(
            maxmemory_bytes=1, eviction_policy="allkeys-lfu", persistence=persistence
        )
    on_aws = elasticache.parameters(
        elasticache.ENGINES[elasticache.DEFAULT_ENGINE], eviction_policy="allkeys-lfu", reserved_percent=25
    )
    found: dict[str, Parity] = {}
    for name in sorted({*on_docker, *on_aws}):
        if name in _REDIS_ON_AWS:
            aws, why = _REDIS_ON_AWS[name]
            found[name] = Parity(_redis_value(name, on_docker[name]), aws, why)
        elif name not in on_docker:
            found[name] = Parity(
                "25 % or more, by `redisMaxmemory`",
                "`awsRedisReservedPercent`",
                "two ways to configure the same share",
            )
        elif name not in on_aws:
            raise KeyError(name)
        else:
            found[name] = same(_redis_value(name, on_docker[name]))
    return found


def _redis_value(name: str, value: str) -> str:
    if name == "maxmemory-clients":
        return f"{redis.CLIENTS_SHARE * 100:.0f} % of `redisMaxmemory`, at least {redis.CLIENTS_MIN_MB} MB"
    is_set = name in ("maxmemory", "maxmemory-policy", "maxclients", "save", "appendonly", "appendfsync")
    return "a setting" if is_set else f"`{value.strip(chr(34))}`"
