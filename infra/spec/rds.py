"""Postgres as RDS runs it: the same parameters as on Docker, less what RDS sets itself, plus its own switches."""

from __future__ import annotations

import re
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
# RDS takes numbers without a unit: parameter -> the unit that it counts in.
_UNITS = {
    **dict.fromkeys(("shared_buffers", "effective_cache_size", "temp_buffers", "wal_buffers"), "8kB"),
    **dict.fromkeys(
        (
            "work_mem",
            "maintenance_work_mem",
            "autovacuum_work_mem",
            "logical_decoding_work_mem",
            "temp_file_limit",
        ),
        "kB",
    ),
    **dict.fromkeys(("max_wal_size", "min_wal_size", "max_slot_wal_keep_size", "wal_keep_size"), "MB"),
    **dict.fromkeys(
        (
            *(
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "idle_session_timeout",
            ),
            *("log_min_duration_statement", "log_autovacuum_min_duration", "deadlock_timeout"),
        ),
        "ms",
    ),
    **dict.fromkeys(("checkpoint_timeout", "autovacuum_naptime", "tcp_keepalives_idle"), "s"),
}
_BYTES = {"kB": 1024, "8kB": 8192, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_MEASURED = re.compile(r"(-?[0-9.]+)\s*([A-Za-z]+)")
# Applied at the next restart, as Postgres has it; RDS refuses to be told "at once" of one. The rest is applied at once.
STATIC = frozenset(
    {
        *("autovacuum_freeze_max_age", "autovacuum_max_workers", "autovacuum_multixact_freeze_max_age"),
        *(
            "hot_standby",
            "huge_pages",
            "max_connections",
            "max_files_per_process",
            "max_locks_per_transaction",
        ),
        *("max_logical_replication_workers", "max_pred_locks_per_transaction", "max_prepared_transactions"),
        *("max_replication_slots", "max_wal_senders", "max_worker_processes", "min_dynamic_shared_memory"),
        *("old_snapshot_threshold", "pg_stat_statements.max", "rds.logical_replication", "shared_buffers"),
        *("shared_preload_libraries", "track_activity_query_size", "track_commit_timestamp", "wal_buffers"),
    }
)


def parameters(
    memory_bytes: int, max_connections: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Every parameter of the instance's parameter group, in the units that RDS takes."""
    wanted = postgres.parameters(memory_bytes, max_connections, extra)
    ours = {name: value for name, value in wanted.items() if name not in OWN_OF_RDS}
    ours["rds.force_ssl"] = "1"
    return {name: unitless(name, value) for name, value in sorted(ours.items())}


def unitless(name: str, value: str) -> str:
    """A parameter's value as RDS takes it; ValueError, with what to do, for one whose unit is not to be left out."""
    measured = _MEASURED.fullmatch(value)
    if measured is None:
        return {"on": "1", "off": "0"}.get(value, value)
    number, unit = measured.groups()
    wanted = _UNITS.get(name)
    for sizes in (_BYTES, _MILLISECONDS):
        if unit in sizes and wanted in sizes and re.fullmatch("-?[0-9]+", number):
            return str(int(number) * sizes[unit] // sizes[wanted])
    raise ValueError(
        f"write a whole number of {wanted}, or one with its unit"
        if wanted
        else "write the number in its own unit (`SELECT unit FROM pg_settings`), without it"
    )
