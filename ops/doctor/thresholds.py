"""The thresholds of warnings and failures (table in docs/doctor.md)."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1024**2


@dataclass(frozen=True)
class Thresholds:
    """Thresholds. Shares are fractions of 1, times seconds unless the name says otherwise, sizes bytes."""

    connections_warn: float = 0.8
    connections_fail: float = 0.95

    postgres_hit_rate_warn: float = 0.95
    postgres_blocks_judged: int = 10_000
    redis_hit_rate_warn: float = 0.5
    redis_lookups_judged: int = 100_000

    unused_index_days: float = 7
    unused_index_bytes: int = MB

    bloat_share_warn: float = 0.5
    bloat_bytes: int = 10 * MB
    dead_rows_share_warn: float = 0.2
    dead_rows_judged: int = 10_000
    # If autovacuum is on for a table, it has to be at least this large, and not vacuumed for this long.
    dead_rows_bytes: int = 10 * MB
    dead_rows_seconds: float = 5 * 60

    transaction_warn: float = 5 * 60
    transaction_fail: float = 60 * 60
    lock_wait_warn: float = 5
    lock_wait_fail: float = 60
    lock_table_warn: float = 0.5
    lock_table_fail: float = 0.8
    notify_queue_warn: float = 0.1
    notify_queue_fail: float = 0.5

    transaction_age_warn: int = 500_000_000
    transaction_age_fail: int = 1_000_000_000

    replica_lag_mb_warn: int = 512

    memory_share_warn: float = 0.8
    memory_share_fail: float = 0.95
    evictions_per_second_warn: float = 1
    fragmentation_ratio_warn: float = 1.5
    fragmentation_share_of_maxmemory: float = 0.25

    certificate_days_warn: float = 30
    backup_hours_warn: float = 26
    backup_hours_fail: float = 50
    restorable_warn: float = 15 * 60
    restorable_fail: float = 60 * 60
    clock_warn: float = 1
    clock_fail: float = 60
