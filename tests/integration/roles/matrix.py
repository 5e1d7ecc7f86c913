"""The Postgres matrix (docs/security.md) as data: an operation, its SQL, and the roles that may run it."""

from __future__ import annotations

from dataclasses import dataclass

from db.entities import ENTITIES

MIGRATOR = frozenset({"migrator"})
NOBODY: frozenset[str] = frozenset()
TABLES = (*(entity.plural for entity in ENTITIES), "activities")


@dataclass(frozen=True)
class Row:
    """An operation of the matrix, its SQL, and the roles that may run it."""

    operation: str
    sql: str
    allowed: frozenset[str]


def may(*names: str) -> frozenset[str]:
    return MIGRATOR | set(names)


TABLE_ROWS = [
    *(
        Row(f"take an advisory lock ({function})", f"SELECT pg_{function}(1)", may("app"))
        for function in ("try_advisory_lock_shared", "advisory_xact_lock_shared")
    ),
    *(
        Row(f"read {t}", f"SELECT id, created_at, row_version FROM groundwork.{t}", may("app", "readonly"))
        for t in TABLES
    ),
    *(Row(f"update {t}", f"UPDATE groundwork.{t} SET row_version = 0", may("app")) for t in TABLES),
    *(Row(f"delete from {t}", f"DELETE FROM groundwork.{t}", may("app")) for t in TABLES),
    # Without a row, which needs values for the columns of each table. tests/integration/entities inserts some as app.
    *(
        Row(f"insert into {t}", f"INSERT INTO groundwork.{t} (row_version) SELECT 0 WHERE false", may("app"))
        for t in TABLES
    ),
    Row(
        "read other columns of users",
        "SELECT username, email, preferences FROM groundwork.users",
        may("app", "readonly"),
    ),
    Row("read the access token", "SELECT access_token FROM groundwork.users", may("app")),
    Row("read the refresh token", "SELECT refresh_token FROM groundwork.users", may("app")),
    Row("read whole rows of users", "SELECT users FROM groundwork.users", may("app")),
    Row("read users with a star", "SELECT * FROM groundwork.users", may("app")),
    Row("find users by token", "SELECT id FROM groundwork.users WHERE access_token IS NOT NULL", may("app")),
    Row("count tokens", "SELECT count(access_token) FROM groundwork.users", may("app")),
    Row("read the planner's sample", "SELECT * FROM pg_statistic", NOBODY),
    Row("read the ledger", "SELECT * FROM groundwork._sqlx_migrations", may("app")),
    Row(
        "insert into the ledger",
        "INSERT INTO groundwork._sqlx_migrations VALUES (99, 'x', now(), true, '', 0)",
        MIGRATOR,
    ),
    Row("update the ledger", "UPDATE groundwork._sqlx_migrations SET success = false", MIGRATOR),
    Row("delete from the ledger", "DELETE FROM groundwork._sqlx_migrations", MIGRATOR),
    Row("truncate the ledger", "TRUNCATE groundwork._sqlx_migrations", MIGRATOR),
    Row("read idempotency keys", "SELECT * FROM groundwork.idempotency_keys", may("app")),
    Row(
        "write an idempotency key",
        "INSERT INTO groundwork.idempotency_keys (key, purpose) VALUES ('k', 'x')",
        may("app"),
    ),
    Row(
        "change an idempotency key's purpose",
        "UPDATE groundwork.idempotency_keys SET purpose = 'y'",
        MIGRATOR,
    ),
    Row("read the outbox", "SELECT * FROM groundwork.cache_outbox", may("app")),
    Row("delete from the outbox", "DELETE FROM groundwork.cache_outbox", may("app")),
    Row(
        "insert into the outbox",
        "INSERT INTO groundwork.cache_outbox (entity, entity_id) VALUES ('user', 1)",
        MIGRATOR,
    ),
    Row("update the outbox", "UPDATE groundwork.cache_outbox SET entity_id = 2", MIGRATOR),
    Row("truncate the outbox", "TRUNCATE groundwork.cache_outbox", MIGRATOR),
    Row(
        "make partitions",
        "SELECT groundwork.make_activity_partitions('2015-01-01', '2015-01-01')",
        may("app"),
    ),
    Row("send a message", "NOTIFY x, 'y'", may("app", "readonly", "monitor")),
    Row("export a snapshot", "SELECT pg_export_snapshot()", MIGRATOR),
    Row("see when backups were made", "SELECT * FROM monitoring.backups()", frozenset({"monitor"})),
]

SCHEMA_ROWS = [
    Row(operation, sql, MIGRATOR)
    for operation, sql in {
        "create a table": "CREATE TABLE groundwork.new ()",
        "create a view": "CREATE VIEW groundwork.new AS SELECT 1 AS one",
        "create a function": "CREATE FUNCTION groundwork.new() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "create a type": "CREATE TYPE groundwork.new AS ENUM ('a')",
        "create a sequence": "CREATE SEQUENCE groundwork.new",
        "create an index": "CREATE INDEX ON groundwork.users (email)",
        "create a trigger": (
            "CREATE TRIGGER new BEFORE UPDATE ON groundwork.users"
            " EXECUTE FUNCTION groundwork.keep_row_version()"
        ),
        "create a rule": "CREATE RULE new AS ON DELETE TO groundwork.users DO ALSO NOTIFY new",
        "create a policy": "CREATE POLICY new ON groundwork.users",
        "alter a table": "ALTER TABLE groundwork.users ADD COLUMN new int",
        "disable a trigger": "ALTER TABLE groundwork.users DISABLE TRIGGER users_outbox_update",
        "drop a table": "DROP TABLE groundwork.activities",
        "rename a table": "ALTER TABLE groundwork.activities RENAME TO new",
        "drop a function": "DROP FUNCTION groundwork.write_feed_outbox() CASCADE",
        "truncate": "TRUNCATE groundwork.activities",
        "comment": "COMMENT ON TABLE groundwork.users IS 'new'",
        "set a sequence": "SELECT setval('groundwork.users_id_seq', 1)",
    }.items()
]

DENIED_ROWS = [
    Row(operation, sql, NOBODY)
    for operation, sql in {
        "create a schema": "CREATE SCHEMA new",
        "create in schema public": "CREATE TABLE public.new ()",
        "create in schema monitoring": "CREATE TABLE monitoring.new ()",
        "create in schema extensions": "CREATE TABLE extensions.new ()",
        "create a temporary table": "CREATE TEMP TABLE new ()",
        "create a temporary view": "CREATE TEMP VIEW new AS SELECT 1 AS one",
        "write WAL from a read-only transaction": "SELECT pg_logical_emit_message(false, 'x', 'x')",
        "raise the limit of temporary files": "SET temp_file_limit = -1",
        "create a large object": "SELECT lo_create(0)",
        "create a large object by its old name": "SELECT lo_creat(-1)",
        "fill a large object": "SELECT lo_from_bytea(0, 'x')",
        "import a large object": "SELECT lo_import('/etc/passwd')",
        "export a large object": "SELECT lo_export(1, '/tmp/x')",
        "copy to a program": "COPY (SELECT 1) TO PROGRAM 'cat'",
        "copy from a program": "COPY groundwork.users FROM PROGRAM 'id'",
        "copy to a file": "COPY (SELECT 1) TO '/tmp/x'",
        "copy from a file": "COPY groundwork.users FROM '/etc/passwd'",
        "read a file": "SELECT pg_read_file('/etc/passwd')",
        "list a folder": "SELECT pg_ls_dir('/')",
        "stat a file": "SELECT pg_stat_file('/etc/passwd')",
        "create a trusted extension": "CREATE EXTENSION hstore",
        "create an extension that reads files": "CREATE EXTENSION file_fdw",
        "drop an extension": "DROP EXTENSION pg_stat_statements",
        "create a language": "CREATE LANGUAGE new HANDLER plpgsql_call_handler",
        "create a foreign data wrapper": "CREATE FOREIGN DATA WRAPPER new",
        "create an event trigger": (
            "CREATE EVENT TRIGGER new ON sql_drop EXECUTE FUNCTION groundwork.keep_row_version()"
        ),
        "create a publication": "CREATE PUBLICATION new FOR ALL TABLES",
        "create a replication slot": "SELECT pg_create_logical_replication_slot('new', 'pgoutput')",
        "read pg_authid": "SELECT rolpassword FROM pg_authid",
        "read pg_shadow": "SELECT passwd FROM pg_shadow",
        "create a role": "CREATE ROLE new",
        "alter another role": "ALTER ROLE postgres PASSWORD 'x'",
        "grant a role": "GRANT pg_read_all_data TO CURRENT_USER",
        "become the superuser": "SET ROLE postgres",
        "authenticate as the superuser": "SET SESSION AUTHORIZATION postgres",
        "reload the configuration": "SELECT pg_reload_conf()",
        "rotate the log": "SELECT pg_rotate_logfile()",
        "switch the WAL": "SELECT pg_switch_wal()",
        "start a backup": "SELECT pg_backup_start('x')",
        "reset statistics": "SELECT pg_stat_reset()",
        "hide from the log": "SET log_statement = 'none'",
        "skip triggers": "SET session_replication_role = 'replica'",
        "read the configuration files": "SELECT * FROM pg_hba_file_rules",
    }.items()
]
