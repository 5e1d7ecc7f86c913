"""Postgres as RDS runs it: the same parameters as on Docker, less what RDS sets itself, plus its own switches."""

from __future__ import annotations

from collections.abc import Mapping

from infra.spec import postgres

MAJOR = "15"
FAMILY = f"postgres{MAJOR}"
# Neither the default port nor a name that everybody tries first.
PORT = 15432
ADMIN = "groundwork_admin"
# A login with this role is let in by an IAM token, and by nothing else.
IAM_ROLE = "rds_iam"
LEAST_STORAGE, MOST_STORAGE = "20GB", "65536GB"
# From here on gp3 may have more than its baseline.
IOPS_STORAGE = "400GB"
LOG_EXPORTS = ("postgresql", "upgrade")

# RDS gives these no value of ours: it owns the files, the addresses, archiving and what keeps data whole.
OWN_OF_RDS = frozenset(
    {
        "listen_addresses",
        "port",
        "unix_socket_directories",
        "ssl",
        "ssl_cert_file",
        "ssl_key_file",
        "log_destination",
        "logging_collector",
        "log_timezone",
        "log_line_prefix",
        "superuser_reserved_connections",
        "fsync",
        "full_page_writes",
        "effective_io_concurrency",
        "wal_compression",
    }
)
# A stack's settings may set none of these on RDS.
REFUSED_PARAMETERS = OWN_OF_RDS | {"rds.force_ssl", "shared_buffers", "effective_cache_size"}
# RDS gives them in units without a suffix: parameter -> bytes of one unit.
_UNITS = {
    "shared_buffers": 8192,
    "effective_cache_size": 8192,
    "work_mem": 1024,
    "maintenance_work_mem": 1024,
    "max_wal_size": 1024**2,
}
_MILLISECONDS = {"log_min_duration_statement": 1, "idle_in_transaction_session_timeout": 1}
# Applied at the next restart; the rest at once.
STATIC = frozenset(
    {"max_connections", "shared_buffers", "shared_preload_libraries", "pg_stat_statements.max"}
)


def parameters(
    memory_bytes: int, max_connections: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Every parameter of the instance's parameter group, in the units that RDS takes."""
    wanted = postgres.parameters(memory_bytes, max_connections, extra)
    ours = {name: value for name, value in wanted.items() if name not in OWN_OF_RDS}
    ours["rds.force_ssl"] = "1"
    return {name: _value(name, value) for name, value in sorted(ours.items())}


def _value(name: str, value: str) -> str:
    amount = _amount(value)
    if name in _UNITS and amount is not None:
        return str(amount // _UNITS[name])
    if name in _MILLISECONDS:
        return str(_milliseconds(value))
    return {"on": "1", "off": "0"}.get(value, value)


def _amount(value: str) -> int | None:
    for suffix, factor in (("kB", 1024), ("MB", 1024**2), ("GB", 1024**3)):
        if value.endswith(suffix) and value.removesuffix(suffix).isdecimal():
            return int(value.removesuffix(suffix)) * factor
    return None


def _milliseconds(value: str) -> int:
    for suffix, factor in (("ms", 1), ("min", 60_000), ("s", 1000), ("h", 3_600_000)):
        if value.endswith(suffix) and value.removesuffix(suffix).isdecimal():
            return int(value.removesuffix(suffix)) * factor
    return int(value)
