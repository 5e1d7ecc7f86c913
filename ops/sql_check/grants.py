"""Privileges in a database, read from its catalogs as lines of text, and db/grants.lock.json, which records them.

Privileges of owners and objects of extensions are left out. A partition is reported under its table's name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from infra.spec.backup_repository import MONITORING_SCHEMA
from infra.spec.roles import EXTENSIONS_SCHEMA, SCHEMA

LOCKFILE = Path(__file__).parents[2] / "db" / "grants.lock.json"
REFRESH = "run `groundwork sql check --update` and commit db/grants.lock.json"
# Any role may read these catalogs.
QUERY = f"""
WITH objects AS (
    SELECT CASE WHEN c.relispartition THEN 'partition of ' || whole.relname
                WHEN c.relkind = 'S' THEN 'sequence ' || c.relname ELSE 'table ' || c.relname END AS object,
           c.relowner AS owner,
           coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS acl
    FROM pg_class AS c LEFT JOIN pg_class AS whole ON whole.oid = pg_partition_root(c.oid)
    WHERE c.relnamespace = '{SCHEMA}'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'column ' || relname || '.' || attname, relowner, attacl
    FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
    WHERE relnamespace = '{SCHEMA}'::regnamespace AND attacl IS NOT NULL AND NOT attisdropped
    UNION ALL
    SELECT 'function ' || nspname || '.' || proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
           proowner, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace
    WHERE nspname IN ('{SCHEMA}', '{MONITORING_SCHEMA}')
       -- PUBLIC lost these functions.
       OR nspname = 'pg_catalog'
          AND proname ~ '^(lo_(creat|create|from_bytea|open|put|unlink|truncate|truncate64|import|export)|lowrite|'
                        'pg_logical_emit_message|pg_export_snapshot|'
                        'pg_(try_)?advisory_(xact_)?lock(_shared)?)$'
    UNION ALL
    SELECT 'schema ' || nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner))
    FROM pg_namespace WHERE nspname IN ('{SCHEMA}', '{EXTENSIONS_SCHEMA}', '{MONITORING_SCHEMA}', 'public')
    UNION ALL
    SELECT 'database ' || CASE datname WHEN current_database() THEN 'of the application' ELSE datname END,
           datdba, coalesce(datacl, acldefault('d', datdba))
    FROM pg_database WHERE datname IN (current_database(), 'postgres', 'template1')
    UNION ALL
    SELECT 'every new '
           || CASE defaclobjtype WHEN 'r' THEN 'table' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'function'
                                 WHEN 'T' THEN 'type' ELSE 'schema' END
           || ' of ' || defaclrole::regrole, defaclrole, defaclacl
    FROM pg_default_acl
)
SELECT line FROM (
    SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END || ' may ' || privilege_type
           || ' ' || object || CASE WHEN is_grantable THEN ', and grant it' ELSE '' END AS line
    FROM objects CROSS JOIN LATERAL aclexplode(acl) WHERE grantee <> owner
    UNION ALL
    SELECT owner::regrole || ' owns ' || object FROM objects
    WHERE object ~ '^(table|partition|sequence|function {SCHEMA})'
) AS lines
GROUP BY line ORDER BY line COLLATE "C"
"""


def render(migrations_digest: str, lines: Sequence[str]) -> str:
    """Return the lockfile's text."""
    return json.dumps({"migrations": migrations_digest, "grants": list(lines)}, indent=1) + "\n"


def locked(lockfile: Path = LOCKFILE) -> tuple[str, list[str]]:
    """Return the digest of the migrations at the time of recording, and the recorded lines of QUERY."""
    content = json.loads(lockfile.read_text(encoding="utf-8"))
    return str(content["migrations"]), [str(line) for line in content["grants"]]
