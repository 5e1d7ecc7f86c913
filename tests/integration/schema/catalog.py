"""A schema's catalog as comparable lines: what is there, with privileges, comments and definitions, without oids."""

from __future__ import annotations

from tests.conftest import Connection

_QUERY = """
    WITH relation AS (
        SELECT c.* FROM pg_class AS c
        WHERE relnamespace = 'groundwork'::regnamespace AND relname NOT LIKE '\\_sqlx\\_migrations%'
    )
    SELECT 'relation', relname, concat_ws(
            ' ', relkind, relpersistence, relispartition, reloptions::text, pg_get_partkeydef(oid),
            pg_get_expr(relpartbound, oid), coalesce(relacl, acldefault('r', relowner))::text,
            obj_description(oid, 'pg_class')
        ) FROM relation
    UNION ALL
    SELECT 'column', relname || '.' || attname, concat_ws(
            ' ', attnum, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attacl::text,
            pg_get_expr(adbin, adrelid), col_description(relation.oid, attnum)
        ) FROM relation JOIN pg_attribute ON attrelid = relation.oid
        LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
        WHERE NOT attisdropped AND attnum > 0
    UNION ALL
    SELECT 'constraint', relname || '.' || conname,
           concat_ws(' ', pg_get_constraintdef(pg_constraint.oid), convalidated)
        FROM relation JOIN pg_constraint ON conrelid = relation.oid
    UNION ALL
    SELECT 'index', relname, concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid, indisprimary)
        FROM relation JOIN pg_index ON indexrelid = relation.oid
    UNION ALL
    SELECT 'trigger', relname || '.' || tgname, concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), tgenabled)
        FROM relation JOIN pg_trigger ON tgrelid = relation.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', proname, concat_ws(
            ' ', pg_get_functiondef(oid), proowner::regrole,
            coalesce(proacl, acldefault('f', proowner))::text, obj_description(oid, 'pg_proc')
        ) FROM pg_proc WHERE pronamespace = 'groundwork'::regnamespace
    UNION ALL
    SELECT 'type', typname, typtype::text FROM pg_type WHERE typnamespace = 'groundwork'::regnamespace
        AND typname NOT LIKE '%\\_sqlx\\_migrations'
    UNION ALL
    SELECT 'ledger', 'privileges', coalesce(relacl, acldefault('r', relowner))::text
        FROM pg_class WHERE oid = to_regclass('groundwork._sqlx_migrations')
    ORDER BY 1, 2, 3
"""


def catalog(connection: Connection) -> list[tuple[object, ...]]:
    """(kind, name, definition) of everything in the application's schema; of the ledger only who may read it."""
    return connection.execute(_QUERY).fetchall()
