-- What every table shares: a row version for optimistic updates, and timestamps that the database keeps.

-- The application reads at which version the schema stands (readiness), and never writes it.
GRANT SELECT ON _sqlx_migrations TO app;

-- row_version grows by one with each update whatever the statement says, for updated_at alone ties
-- within a transaction; created_at never moves.
CREATE FUNCTION keep_row_version() RETURNS trigger
LANGUAGE plpgsql
SET search_path = groundwork, pg_temp
AS $$
BEGIN
    NEW.row_version := OLD.row_version + 1;
    NEW.created_at := OLD.created_at;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION keep_row_version() IS
    'BEFORE UPDATE, each row: bumps row_version, sets updated_at, keeps created_at.';

REVOKE ALL ON FUNCTION keep_row_version() FROM PUBLIC;
