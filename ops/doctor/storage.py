"""Postgres storage: buffer hit rate, dead rows, bloat, and transaction ID wraparound."""

from __future__ import annotations

import shlex

from ops.doctor.check_result import (
    STACK_OPTION,
    CheckResult,
    counted,
    judged,
    level,
    ok,
    psql_command,
    skipped,
    warn,
)
from ops.doctor.examination import Examination

_HITS = """
SELECT blks_hit AS hit, blks_read AS read FROM pg_stat_database WHERE datname = current_database()
"""
# Autovacuum starts once a minute. Until then the outbox of a bulk load has only dead rows.
# After a crash, a failover or a restore the statistics begin at 0, and updates do not increase n_live_tup. reltuples is
# the planner's estimate as of the last VACUUM or ANALYZE; it is -1 before the first.
_DEAD = """
SELECT relid::regclass::text AS name, n_dead_tup AS dead, rows.live,
       greatest(last_autovacuum, last_vacuum)::text AS vacuumed
FROM pg_stat_user_tables
JOIN pg_class AS c ON c.oid = relid
CROSS JOIN LATERAL (SELECT greatest(n_live_tup, c.reltuples::bigint) AS live) AS rows
WHERE n_dead_tup >= %(least)s AND n_dead_tup >= %(share)s * (n_dead_tup + rows.live)
  AND NOT (
    current_setting('autovacuum')::bool
    AND NOT EXISTS (
        SELECT FROM pg_options_to_table(c.reloptions)
        WHERE option_name = 'autovacuum_enabled' AND NOT option_value::bool
    )
    AND (
        pg_relation_size(relid) < %(bytes)s
        OR greatest(last_autovacuum, last_vacuum) >= now() - make_interval(secs => %(seconds)s)
    )
  )
ORDER BY n_dead_tup DESC
"""
_AGES = """
SELECT datname AS name, age(datfrozenxid) AS xids, mxid_age(datminmxid) AS multixacts
FROM pg_database WHERE datallowconn OR datname = 'template0' ORDER BY greatest(age(datfrozenxid), 0) DESC
"""
# Estimated from the planner's statistics, as of the last VACUUM or ANALYZE: rows times their average width, packed as
# in a new table (fill factor, 24-byte page header, 4-byte item) or a new btree (90 % full, special space of 16 bytes).
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


def hit_rate(examination: Examination) -> CheckResult:
    """postgres-hit-rate: check the share of blocks found in shared buffers since the last statistics reset."""
    limits = examination.thresholds
    (row,) = examination.postgres.rows(_HITS)
    asked = row["hit"] + row["read"]
    if asked < limits.postgres_blocks_judged:
        return ok(f"only {asked} blocks were read; checked after {limits.postgres_blocks_judged}")
    rate = row["hit"] / asked
    text = f"{rate:.1%} of {asked} blocks came from shared buffers"
    if rate >= limits.postgres_hit_rate_warn:
        return ok(text)
    return warn(
        text,
        f"see which statements read the most with `groundwork report{STACK_OPTION} --html report.html`; an index may be"
        " missing, or postgresMemory too small",
    )


def dead_rows(examination: Examination) -> CheckResult:
    """dead-rows: find tables with dead rows that VACUUM has not removed."""
    limits = examination.thresholds
    rows = examination.postgres.rows(
        _DEAD,
        least=limits.dead_rows_judged,
        share=limits.dead_rows_share_warn,
        bytes=limits.dead_rows_bytes,
        seconds=limits.dead_rows_seconds,
    )
    if not rows:
        return ok("vacuum keeps up")
    names = ", ".join(row["name"] for row in rows)
    return warn(
        f"{counted(len(rows), 'table')} with many dead rows: {names}",
        f"check long-transactions, which hold vacuum back, then run {psql_command(f'VACUUM {names}')}",
        [
            f"{row['name']}: {row['dead']} dead and {row['live']} live rows,"
            f" last vacuumed {row['vacuumed'] or 'never'}"
            for row in rows
        ],
    )


def bloat(examination: Examination) -> CheckResult:
    """bloat: estimate the unused space in tables and indexes."""
    limits = examination.thresholds
    query = _BLOAT.format(share=limits.bloat_share_warn, least=limits.bloat_bytes)
    rows = examination.postgres.superuser_rows(query)
    if not rows:
        return ok(
            f"nothing wastes {limits.bloat_share_warn:.0%} and {limits.bloat_bytes // 1024**2} MB or more (estimate)"
        )
    return warn(
        f"about {sum(row['wasted'] for row in rows) / 1024**2:.0f} MB are unused: "
        + ", ".join(row["name"] for row in rows),
        "rebuild an index with REINDEX INDEX CONCURRENTLY; new rows fill the space in a table, and VACUUM FULL frees it"
        " but locks the table",
        [
            f"{row['name']}: {row['wasted'] / 1024**2:.0f} of {row['bytes'] / 1024**2:.0f} MB (estimate)"
            for row in rows
        ],
    )


def wraparound(examination: Examination) -> CheckResult:
    """wraparound: check the age of the oldest transaction number. At two billion the server stops writing."""
    limits = examination.thresholds
    rows = examination.postgres.rows(_AGES)
    if not rows:
        return skipped("the server has no databases")
    oldest = max(rows, key=lambda row: max(row["xids"], row["multixacts"]))
    age = max(oldest["xids"], oldest["multixacts"])
    freeze = f"`groundwork psql{STACK_OPTION} --dbname={shlex.quote(oldest['name'])} -c 'VACUUM (FREEZE)'`"
    return judged(
        level(age, limits.transaction_age_warn, limits.transaction_age_fail),
        f"the oldest number is {age:,} transactions old, in database {oldest['name']}",
        "autovacuum does not keep up: end long transactions"
        + ("" if oldest["name"] == "template0" else f", then run {freeze}"),
        [f"{row['name']}: {row['xids']:,} transactions, {row['multixacts']:,} multixacts" for row in rows],
    )
