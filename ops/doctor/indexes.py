"""Indexes that cost writes and give nothing: invalid, equal to another, or never read."""

from __future__ import annotations

from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, fail, ok, skipped, warn

_INVALID = """
SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS "table", indisunique
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT (indisvalid AND indisready AND indislive)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS building WHERE building.index_relid = indexrelid)
ORDER BY 1
"""
# Equal in everything a reader could use: of a unique one and a plain one the plain one is superfluous.
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
# The partitions' indexes are counted together: it is the index of the whole table that is used or not.
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


def invalid(examination: Examination) -> Finding:
    """invalid-indexes: left by a CREATE INDEX CONCURRENTLY that failed; written and never read."""
    rows = examination.postgres.rows(_INVALID)
    if not rows:
        return ok("every index is valid")
    return fail(
        f"{len(rows)} invalid: {', '.join(row['name'] for row in rows)}",
        "REINDEX INDEX CONCURRENTLY it, or DROP INDEX CONCURRENTLY and make it again, in a migration",
        [
            f"{row['name']} on {row['table']}"
            + (": nothing is kept unique by it" if row["indisunique"] else "")
            for row in rows
        ],
    )


def duplicate(examination: Examination) -> Finding:
    """duplicate-indexes: every write pays for both."""
    rows = examination.postgres.rows(_DUPLICATE)
    if not rows:
        return ok("no two indexes are alike")
    return warn(
        f"{sum(len(row['names']) - 1 for row in rows)} superfluous: "
        + ", ".join(name for row in rows for name in row["names"][1:]),
        "drop them in a migration: DROP INDEX CONCURRENTLY",
        [f"on {row['table']}: {' = '.join(row['names'])}" for row in rows],
    )


def unused(examination: Examination) -> Finding:
    """unused-indexes: never read since the statistics began, and large enough to matter."""
    limits = examination.thresholds
    (statistics,) = examination.postgres.rows(_STATISTICS_DAYS)
    days = statistics["days"]
    if days < limits.unused_index_days:
        return skipped(
            f"the statistics are {days:.1f} days old; judged from {limits.unused_index_days:g} days on"
        )
    rows = examination.postgres.rows(_UNUSED, least=limits.unused_index_bytes)
    if not rows:
        return ok(f"every large index was read in {days:.0f} days")
    return warn(
        f"{len(rows)} never read in {days:.0f} days: {', '.join(row['name'] for row in rows)}",
        "drop them in a migration, unless a replica or a rare report reads them",
        [f"{row['name']} on {row['table']}, {row['bytes'] / 1024**2:.0f} MB" for row in rows],
    )
