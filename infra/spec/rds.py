"""Parameters of Postgres on RDS: the ones of Docker, without those that RDS sets itself, plus RDS's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from infra.spec import postgres, rds_defaults

MAJOR = "15"
FAMILY = f"postgres{MAJOR}"
# Not the default port and not a common name, because attackers try these first.
PORT = 15432
ADMIN = "groundwork_admin"
# A login that is a member of this role can log in only with an IAM token.
IAM_ROLE = "rds_iam"
# RDS reserves two more connections for its own superusers (rds.rds_superuser_reserved_connections).
SUPERUSER_RESERVE = postgres.SUPERUSER_RESERVE + 2
LEAST_STORAGE, MOST_STORAGE = "20GB", "65536GB"
# From this storage size, gp3 can have more IOPS than its baseline.
IOPS_STORAGE = "400GB"
LOG_EXPORTS = ("postgresql", "upgrade")

# RDS sets these itself, because it manages the files, the addresses, archiving and data integrity.
OWN_OF_RDS = frozenset(
    {
        "listen_addresses",
        "port",
        "unix_socket_directories",
        "ssl",
        "ssl_cert_file",
        "ssl_key_file",
        "ssl_ciphers",
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
# A stack's settings may not set these on RDS.
REFUSED_PARAMETERS = OWN_OF_RDS | {"rds.force_ssl", "shared_buffers", "effective_cache_size"}
# Parameter -> its unit. RDS accepts numbers only, without a unit.
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
    **dict.fromkeys(
        ("authentication_timeout", "checkpoint_timeout", "autovacuum_naptime", "tcp_keepalives_idle"), "s"
    ),
}
_BYTES = {"kB": 1024, "8kB": 8192, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
# Parameters that look boolean but have more values. RDS accepts their values by name only, and not 1 or 0.
NAMED_SWITCHES = frozenset(
    {
        *(
            "archive_mode",
            "backslash_quote",
            "compute_query_id",
            "constraint_exclusion",
            "force_parallel_mode",
        ),
        *("huge_pages", "recovery_prefetch", "synchronous_commit", "wal_compression"),
    }
)
_SWITCHES = {
    **dict.fromkeys(("on", "true", "yes"), ("on", "1")),
    **dict.fromkeys(("off", "false", "no"), ("off", "0")),
}
_MEASURED = re.compile(r"(-?[0-9.]+)\s*([A-Za-z]+)")
# Parameters that take effect at a restart: RDS rejects the apply method `immediate` for them. Others apply at once.
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


# Stands for the name of the newest migration if there is none.
NO_MIGRATION = "none"


def migrations_digest(checksums: Mapping[str, str]) -> str:
    """Return a digest of migrations, given as name -> checksum. The program computes it, and the task compares it."""
    text = "".join(f"{name} {checksum}\n" for name, checksum in sorted(checksums.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def apply_method(name: str, value: str) -> str:
    """Return how a value, in RDS's form, is sent.

    RDS reports a value that equals its default as `pending-reboot`, however it was sent. Sent in another way it would
    be a permanent difference. So a change back to the default takes effect at the next restart.
    """
    waits = name in STATIC or rds_defaults.is_default(name, value)
    return "pending-reboot" if waits else "immediate"


def parameters(
    memory_bytes: int, max_connections: int, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return every parameter of the instance's parameter group, in the units that RDS uses."""
    wanted = postgres.parameters(memory_bytes, max_connections, extra)
    ours = {name: value for name, value in wanted.items() if name not in OWN_OF_RDS}
    ours["rds.force_ssl"] = "1"
    return {name: unitless(name, value) for name, value in sorted(ours.items())}


def unitless(name: str, value: str) -> str:
    """Convert a parameter's value to the form that RDS accepts.

    Raises ValueError, which says what to write instead, for a value whose unit cannot be converted.
    """
    measured = _MEASURED.fullmatch(value)
    if measured is None:
        return _switch(name, value)
    number, unit = measured.groups()
    wanted = _UNITS.get(name)
    for sizes in (_BYTES, _MILLISECONDS):
        if unit in sizes and wanted in sizes and re.fullmatch("-?[0-9]+", number):
            return str(int(number) * sizes[unit] // sizes[wanted])
    raise ValueError(
        f"write a whole number of {wanted}, or one with its unit"
        if wanted
        else "write a plain number in the parameter's unit (`SELECT unit FROM pg_settings`)"
    )


def _switch(name: str, value: str) -> str:
    """Convert a boolean to 1 or 0, and a switch of a parameter with more values to `on` or `off`."""
    if (forms := _SWITCHES.get(value.lower())) is None:
        return value
    word, number = forms
    if name in NAMED_SWITCHES:
        return word
    # A parameter that the table does not contain is static or belongs to an extension.
    return number if rds_defaults.POSTGRES.get(name, number) in ("0", "1") else value
