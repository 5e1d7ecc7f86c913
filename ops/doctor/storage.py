"""What lies in Postgres's files: read from memory or not, dead, bloated, or near the end of its numbers."""

from __future__ import annotations

from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, counted, judged, level, ok, skipped, warn

_HITS = """
SELECT blks_hit AS hit, blks_read AS read FROM pg_stat_database WHERE datname = current_database()
"""
_DEAD = """
SELECT relid::regclass::text AS name, n_dead_tup AS dead, n_live_tup AS live,
       greatest(last_autovacuum, last_vacuum)::text AS vacuumed
FROM pg_stat_user_tables
WHERE n_dead_tup >= %(least)s AND n_dead_tup >= %(share)s * (n_dead_tup + n_live_tup)
ORDER BY n_dead_tup DESC
"""
_AGES = """
SELECT datname AS name, age(datfrozenxid) AS xids, mxid_age(datminmxid) AS multixacts
FROM pg_database WHERE datallowconn OR datname = 'template0' ORDER BY greatest(age(datfrozenxid), 0) DESC
"""
# By the planner's statistics, as VACUUM and ANALYZE left them: rows times their average width, packed as a new
# table (fill factor, 24-byte page header, 4-byte item) or a new btree (90 % full, special space of 16) would be.
_BLOAT = """
WITH widths AS (
    SELECT starelid, staattnum, (1 - stanullfrac) * stawidth AS width FROM pg_statistic WHERE NOT stainherit
), estimates AS (
    SELECT c.oid, c.relpages, ceil(
        c.reltuples * (4 + 24 + 8 * ceil(sum(widths.width) / 8))
        / ((8192 - 24) * coalesce(substring(c.reloptions::text FROM 'fillfactor=(\\d+)')::int, 100) / 100.0)
    ) AS pages
    FROM pg_class AS c JOIN widths ON widths.starelid = c.oid
    WHERE c.relkind IN ('r', 'm') AND c.reltuples >= 0
    GROUP BY c.oid
    UNION ALL
    SELECT c.oid, c.relpages, 1 + ceil(
        c.reltuples * (4 + 8 + 8 * ceil(sum(widths.width) / 8)) / ((8192 - 24 - 16) * 0.9)
    )
    FROM pg_index
    JOIN pg_class AS c ON c.oid = indexrelid
    JOIN pg_am ON pg_am.oid = c.relam AND amname = 'btree'
    CROSS JOIN LATERAL unnest(indkey::int2[]) AS key (attnum)
    LEFT JOIN widths ON widths.starelid = indrelid AND widths.staattnum = key.attnum
    WHERE indpred IS NULL AND c.reltuples >= 0
    GROUP BY c.oid
    -- A column without statistics, or an expression: no estimate rather than a wrong one.
    HAVING bool_and(widths.width IS NOT NULL)
)
SELECT oid::regclass::text AS name, relpages * 8192::bigint AS bytes,
       ((relpages - pages) * 8192)::bigint AS wasted
FROM estimates
WHERE relpages > 0 AND relpages - pages >= {share} * relpages
  AND (relpages - pages) * 8192 >= {least}
  AND oid >= 16384
ORDER BY wasted DESC LIMIT 20
"""


def hit_rate(examination: Examination) -> Finding:
    """postgres-hit-rate: blocks found in shared buffers, since the statistics began."""
    limits = examination.thresholds
    (row,) = examination.postgres.rows(_HITS)
    asked = row["hit"] + row["read"]
    if asked < limits.postgres_blocks_judged:
        return ok(f"only {asked} blocks were asked for; judged from {limits.postgres_blocks_judged} on")
    rate = row["hit"] / asked
    text = f"{rate:.1%} of {asked} blocks came from shared buffers"
    if rate >= limits.postgres_hit_rate_warn:
        return ok(text)
    return warn(
        text,
        "see what reads so much (`groundwork report`): a missing index, or too little postgresMemory",
    )


def dead_rows(examination: Examination) -> Finding:
    """dead-rows: what VACUUM has not got to."""
    limits = examination.thresholds
    rows = examination.postgres.rows(_DEAD, least=limits.dead_rows_judged, share=limits.dead_rows_share_warn)
    if not rows:
        return ok("vacuum keeps up")
    return warn(
        f"{counted(len(rows), 'table')} with many: {', '.join(row['name'] for row in rows)}",
        "look for what holds vacuum back (long-transactions), or VACUUM it: `groundwork psql -c 'VACUUM TABLE'`",
        [
            f"{row['name']}: {row['dead']} dead beside {row['live']} live,"
            f" last vacuumed {row['vacuumed'] or 'never'}"
            for row in rows
        ],
    )


def bloat(examination: Examination) -> Finding:
    """bloat: an estimate of the room in tables and indexes that holds nothing."""
    limits = examination.thresholds
    query = _BLOAT.format(share=limits.bloat_share_warn, least=limits.bloat_bytes)
    rows = examination.postgres.superuser_rows(query)
    if not rows:
        return ok(
            f"nothing has {limits.bloat_share_warn:.0%} and {limits.bloat_bytes // 1024**2} MB to spare (estimate)"
        )
    return warn(
        f"about {sum(row['wasted'] for row in rows) / 1024**2:.0f} MB hold nothing: "
        + ", ".join(row["name"] for row in rows),
        "an index: REINDEX INDEX CONCURRENTLY; a table is used up again by new rows, VACUUM FULL locks it",
        [
            f"{row['name']}: {row['wasted'] / 1024**2:.0f} of {row['bytes'] / 1024**2:.0f} MB (estimate)"
            for row in rows
        ],
    )


def wraparound(examination: Examination) -> Finding:
    """wraparound: how old the oldest transaction number is; at two billion the server stops writing."""
    limits = examination.thresholds
    rows = examination.postgres.rows(_AGES)
    if not rows:
        return skipped("there is no database to ask about")
    oldest = max(rows, key=lambda row: max(row["xids"], row["multixacts"]))
    age = max(oldest["xids"], oldest["multixacts"])
    return judged(
        level(age, limits.transaction_age_warn, limits.transaction_age_fail),
        f"the oldest number is {age:,} transactions old, in database {oldest['name']}",
        "autovacuum does not get to the end: end long transactions, then `VACUUM FREEZE` that database",
        [f"{row['name']}: {row['xids']:,} transactions, {row['multixacts']:,} multixacts" for row in rows],
    )
