-- Queries about the schema and the login.

-- name: read_ledger :read
-- Read every migration in the ledger: applied, or started but not finished.
-- takes: nothing
-- gives: AppliedMigration
SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY version;

-- name: make_activity_partitions :write
-- Create the missing monthly partitions of activities up to three months ahead, and return their names.
-- takes: nothing
-- gives: str
-- never null: partition
SELECT make_activity_partitions(now(), now() + interval '3 months') AS partition;

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
