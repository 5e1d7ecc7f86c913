-- What the access service asks about the schema itself.

-- name: read_ledger :read
-- Every migration the database has seen, applied or begun.
-- takes: nothing
-- gives: AppliedMigration
SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY version;

-- name: make_activity_partitions :write
-- The monthly partitions of activities that were missing up to three months from now, now made.
-- takes: nothing
-- gives: str
-- never null: partition
SELECT make_activity_partitions(now(), now() + interval '3 months') AS partition;

-- name: read_connection_limit :read
-- How many connections this login may have: its own limit (-1: none), and what the server leaves to everyone.
-- takes: nothing
-- gives: ConnectionLimit
-- never null: role_limit, server_limit
SELECT
    rolconnlimit AS role_limit,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS server_limit
FROM pg_roles
WHERE rolname = session_user;
