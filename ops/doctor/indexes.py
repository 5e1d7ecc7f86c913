"""Indexes that slow down writes without being useful: invalid, duplicate, or never read."""

from __future__ import annotations

from ops.doctor.check_result import CheckResult, fail, ok, psql_command, skipped, warn
from ops.doctor.examination import Examination

_INVALID = """
SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS "table", indisunique
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT (indisvalid AND indisready AND indislive)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS building WHERE building.index_relid = indexrelid)
ORDER BY 1
"""
# Equal in everything that matters to a reader. Of a unique and a plain index, the plain one is superfluous.
_DUPLICATE = """
SELECT array_agg(indexrelid::regclass::text ORDER BY (indisprimary, indisunique) DESC, indexrelid) AS names,
       indrelid::regclass::text AS "table"
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') AND NOT relispartition
GROUP BY indrelid, relam, indkey::text, indnkeyatts, indclass::text, indcollation::text, indoption::text,
         coalesce(pg_get_expr(indexprs, indrelid), ''), coalesce(pg_get_expr(indpred, indrelid), '')
HAVING count(*) > 1
ORDER BY 2, 1
"""
# The scans of all partitions are added up, because only the index of the whole table is used or unused.
_UNUSED = """
SELECT whole.oid::regclass::text AS name, pg_index.indrelid::regclass::text AS "table", used.bytes
FROM (
    SELECT coalesce(pg_partition_root(indexrelid), indexrelid::regclass) AS root,
           sum(idx_scan) AS scans, sum(pg_relation_size(indexrelid))::bigint AS bytes
    FROM pg_stat_user_indexes GROUP BY 1
) AS used
JOIN pg_class AS whole ON whole.oid = used.root
JOIN pg_index ON indexrelid = whole.oid
WHERE scans = 0 AND NOT indisunique AND bytes >= %(least)s
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = whole.oid AND contype IN ('p', 'u', 'x'))
ORDER BY bytes DESC
"""
_STATISTICS_DAYS = """
SELECT extract(epoch FROM now() - coalesce(stats_reset, pg_postmaster_start_time()))::float / 86400 AS days
FROM pg_stat_database WHERE datname = current_database()
"""


def invalid(examination: Examination) -> CheckResult:
    """invalid-indexes: find what a failed CREATE INDEX CONCURRENTLY left. Such an index is written but never read."""
    rows = examination.postgres.rows(_INVALID)
    if not rows:
        return ok("all indexes are valid")
    rebuild = psql_command(*(f"REINDEX INDEX CONCURRENTLY {row['name']}" for row in rows))
    return fail(
        f"{len(rows)} invalid: {', '.join(row['name'] for row in rows)}",
        f"rebuild with {rebuild}, or use DROP INDEX CONCURRENTLY and CREATE INDEX CONCURRENTLY in migrations",
        [
            f"{row['name']} on {row['table']}"
            + (": uniqueness is not enforced" if row["indisunique"] else "")
            for row in rows
        ],
    )


def duplicate(examination: Examination) -> CheckResult:
    """duplicate-indexes: find indexes that are equal. Every write has to update both."""
    rows = examination.postgres.rows(_DUPLICATE)
    if not rows:
        return ok("no duplicate indexes")
    superfluous = [name for row in rows for name in row["names"][1:]]
    drops = "; ".join(f"DROP INDEX CONCURRENTLY {name}" for name in superfluous)
    return warn(
        f"{len(superfluous)} superfluous: {', '.join(superfluous)}",
        f"drop each in its own migration (`groundwork migrate new drop_index --no-transaction`): {drops}",
        [f"on {row['table']}: {' = '.join(row['names'])}" for row in rows],
    )


def unused(examination: Examination) -> CheckResult:
    """unused-indexes: find large indexes that were never read since the last statistics reset."""
    limits = examination.thresholds
    (statistics,) = examination.postgres.rows(_STATISTICS_DAYS)
    days = statistics["days"]
    if days < limits.unused_index_days:
        return skipped(
            f"the statistics are {days:.1f} days old; checked after {limits.unused_index_days:g} days"
        )
    rows = examination.postgres.rows(_UNUSED, least=limits.unused_index_bytes)
    if not rows:
        return ok(f"every large index was read within {days:.0f} days")
    return warn(
        f"{len(rows)} never read in {days:.0f} days: {', '.join(row['name'] for row in rows)}",
        "drop them in a migration, unless a replica or a rare report needs them",
        [f"{row['name']} on {row['table']}, {row['bytes'] / 1024**2:.0f} MB" for row in rows],
    )
