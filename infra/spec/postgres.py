"""The Postgres server's configuration: postgresql.conf and pg_hba.conf.

Most parameters are derived from the memory limit. Security parameters are fixed; a stack's settings cannot override
them.
"""

from __future__ import annotations

from collections.abc import Mapping

from infra.spec import tls
from infra.spec.quantity import format_mb
from infra.spec.roles import DATABASE, REPLICATOR

UID = GID = 10010
PORT = 5432
CONFIG_DIR = "/etc/groundwork"
DATA_DIR = "/var/lib/postgresql"
SOCKET_DIR = "/run/postgresql"
# Makes the server reload its certificate and key for new connections, over the local socket.
RELOAD = ("psql", "--no-psqlrc", "--quiet", "--dbname=postgres", "--command=SELECT pg_reload_conf()")
# Connections that are reserved for superusers, so that an operator can always connect.
SUPERUSER_RESERVE = 3

# docs/security.md promises these values, so a stack's settings may not change them.
FIXED_PARAMETERS: dict[str, str] = {
    "listen_addresses": "*",
    "port": str(PORT),
    "unix_socket_directories": SOCKET_DIR,
    "ssl": "on",
    "ssl_cert_file": f"{CONFIG_DIR}/server.crt",
    "ssl_key_file": f"{CONFIG_DIR}/server.key",
    "ssl_min_protocol_version": tls.MIN_VERSION,
    "ssl_ciphers": tls.CIPHERS,
    "password_encryption": "scram-sha-256",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_destination": "stderr",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "superuser_reserved_connections": str(SUPERUSER_RESERVE),
    "shared_preload_libraries": "pg_stat_statements",
    "fsync": "on",
    "full_page_writes": "on",
}
# A stack that sets one of these gets an error. Most of them are set on the command line or elsewhere.
REFUSED_PARAMETERS = frozenset(FIXED_PARAMETERS) | {
    "config_file",
    "data_directory",
    "hba_file",
    "ident_file",
    "max_connections",
    # Not parameters: they would include files that groundwork has not checked.
    "include",
    "include_dir",
    "include_if_exists",
    # Backups set the archiving (infra.spec.backup), and a restore sets the recovery.
    "archive_command",
    "archive_library",
    "archive_mode",
    "archive_timeout",
    "restore_command",
    "wal_level",
}


# A read of activities without a range of time locks the table of each month and its five indexes. GitHub Archive began
# in 2011.
_LOCKS_OF_A_READ = 6 * 12 * 16
# The shared memory of a lock, measured with Postgres 15 on x86-64: 52 MB for 108,800 locks.
_LOCK_BYTES = 480
# Postgres's default.
_FEWEST_LOCKS = 64


def locks_per_transaction(memory_bytes: int, max_connections: int) -> int:
    """Return max_locks_per_transaction: the lock table has that many entries for each connection.

    It lets every connection read 16 years of activities at once, if that takes at most 1/40 of the memory.
    """
    affordable = memory_bytes // 40 // _LOCK_BYTES // max_connections
    return max(_FEWEST_LOCKS, min(affordable, _LOCKS_OF_A_READ))


def parameters(
    memory_bytes: int, max_connections: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return every parameter of the server. `extra` overrides derived values, and fixed values override both.

    A quarter of the memory for shared buffers, and a quarter divided into work_mem, is the usual start for a mixed load
    (https://www.postgresql.org/docs/15/runtime-config-resource.html).
    """
    quarter = memory_bytes // 4
    derived = {
        "max_connections": str(max_connections),
        "max_locks_per_transaction": str(locks_per_transaction(memory_bytes, max_connections)),
        "shared_buffers": format_mb(quarter),
        "effective_cache_size": format_mb(memory_bytes * 6 // 10),
        "work_mem": f"{max(quarter // max_connections // 1024, 1024)}kB",
        "maintenance_work_mem": format_mb(max(memory_bytes // 20, 16 * 1024**2)),
        "max_wal_size": "1GB",
        "checkpoint_completion_target": "0.9",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "64",
        # Setting `on` selects pglz, and the server then reports `pglz`.
        "wal_compression": "pglz",
        "log_statement": "ddl",
        "log_min_duration_statement": "500ms",
        "log_lock_waits": "on",
        "log_checkpoints": "on",
        # Without %u and %d: they are printed as the client sent them, so that a newline in a login name forges a line.
        # Everywhere else Postgres indents the lines after the first. `log_connections` maps the process to its login.
        "log_line_prefix": "%m [%p] ",
        "track_io_timing": "on",
        "tcp_keepalives_idle": "60",
        # Clients that do not complete their login occupy a connection until then.
        "authentication_timeout": "15s",
        "idle_in_transaction_session_timeout": "5min",
        "pg_stat_statements.max": "5000",
    }
    return derived | dict(extra or {}) | FIXED_PARAMETERS


def render_conf(values: Mapping[str, str]) -> str:
    """Render postgresql.conf with one quoted parameter per line."""
    quoted = ((key, value.replace("\\", "\\\\").replace("'", "''")) for key, value in values.items())
    return "".join(f"{key} = '{value}'\n" for key, value in quoted)


# TLS and SCRAM, from the server's own network only. The superuser has no password: it can only connect over the local
# socket as the operating system's user (peer).
_HBA = (
    ("local", "all", "postgres", "", "peer"),
    ("local", "all", "all", "", "reject"),
    (
        "hostssl",
        "{database}",
        "+app,+readonly,+monitor,migrator",
        "samenet",
        "scram-sha-256",
    ),
    ("host", "all", "all", "all", "reject"),
)


# How the members of a cluster log in to each other: as the role that their certificates' names are mapped to.
_MEMBERS_HBA = tuple(
    ("hostssl", database, REPLICATOR, "samenet", "cert map={members}")
    for database in ("replication", "postgres")
)


def render_hba(database: str = DATABASE, members: str | None = None) -> str:
    """Render pg_hba.conf. `database` is the database that roles may connect to; tests' servers use `all`.

    `members` is the map in pg_ident.conf of a cluster's members, which may replicate.
    """
    rows = _HBA if members is None else (*_HBA[:2], *_MEMBERS_HBA, *_HBA[2:])
    lines = (" ".join(field for field in row if field) for row in rows)
    return "\n".join(lines).format(database=database, members=members) + "\n"
