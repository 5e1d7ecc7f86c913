-- Queries about the schema and the login.

-- name: read_ledger :read
-- Read every migration in the ledger: applied, or started but not finished.
-- takes: nothing
-- gives: AppliedMigration
SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY version;

-- name: read_connection_limit :read
-- Read the login's connection limit (-1 means no limit), and the connections that the server allows to all roles.
-- takes: nothing
-- gives: ConnectionLimit
-- never null: role_limit, server_limit
SELECT
    rolconnlimit AS role_limit,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS server_limit
FROM pg_roles
WHERE rolname = session_user;

-- name: read_replication :read
-- Read how many replicas are connected to this server, and whether commits wait because none of them is synchronous. Every
-- role sees the names of the replicas, but not their states.
-- takes: nothing
-- gives: Replication
-- never null: connected, writes_wait
SELECT
    count(*) AS connected,
    current_setting('synchronous_standby_names') <> '' AND NOT coalesce(
        bool_or(
            ARRAY[application_name, '*']
            && regexp_split_to_array(current_setting('synchronous_standby_names'), '[^a-zA-Z0-9_.*-]+')
        ),
        false
    ) AS writes_wait
FROM pg_stat_replication
WHERE application_name <> 'pg_basebackup';
