"""The backup repository in Postgres's container: its path, and a function that reports the age of the backups."""

from __future__ import annotations

FOLDER = "/var/lib/pgbackrest"
STANZA = "groundwork"
MONITORING_SCHEMA = "monitoring"


def monitoring_sql(reader: str) -> str:
    """Return SQL for a function that shows role `reader` the age of the backups. Idempotent; the superuser runs it.

    The function reads names and times of the repository's files, and never their content, so it needs no key. A backup
    has a manifest once it is complete. `has_last_wal` is false if the repository lacks the file that Postgres archived
    last; pgBackRest drops WAL when its queue is full.
    """
    backups, archive = f"{FOLDER}/backup/{STANZA}", f"{FOLDER}/archive/{STANZA}"
    return rf"""
CREATE SCHEMA IF NOT EXISTS {MONITORING_SCHEMA};
GRANT USAGE ON SCHEMA {MONITORING_SCHEMA} TO {reader};
CREATE OR REPLACE FUNCTION {MONITORING_SCHEMA}.backups(
    OUT backups bigint, OUT newest timestamptz, OUT newest_full timestamptz, OUT has_last_wal boolean
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
WITH whole AS (
    SELECT label, (pg_stat_file('{backups}/' || label || '/backup.manifest', true)).modification AS made
    FROM pg_ls_dir('{backups}', true, false) AS label
    WHERE label ~ '^\d{{8}}-\d{{6}}F'
)
SELECT count(made), max(made), max(made) FILTER (WHERE label ~ 'F$'), (
    SELECT coalesce(last_archived_wal !~ '^[0-9A-F]{{24}}$', true) OR EXISTS (
        SELECT FROM pg_ls_dir('{archive}', true, false) AS id,
            pg_ls_dir('{archive}/' || id || '/' || left(last_archived_wal, 16), true, false) AS file
        WHERE id ~ '^\d+-\d+$' AND starts_with(file, last_archived_wal || '-')
    )
    FROM pg_stat_archiver
)
FROM whole
$function$;
REVOKE ALL ON FUNCTION {MONITORING_SCHEMA}.backups() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {MONITORING_SCHEMA}.backups() TO {reader};
"""
