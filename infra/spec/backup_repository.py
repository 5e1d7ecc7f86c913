"""The repository of backups in Postgres's container: its place, and how the age of what is there is seen."""

from __future__ import annotations

FOLDER = "/var/lib/pgbackrest"
STANZA = "groundwork"
MONITORING_SCHEMA = "monitoring"


def monitoring_sql(reader: str) -> str:
    """SQL for a function by which role `reader` sees how old the backups are: run by the superuser, may be repeated.

    It reads names and times of the repository's files as the server can, and no content: it needs no key. A backup
    has its manifest when it is whole. `has_last_wal` is false where the file that Postgres believes to be archived is
    not there, as pgBackRest has it when the queue is full and WAL is given up.
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
