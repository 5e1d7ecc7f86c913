-- A row that is deleted and inserted again under the same id used to start at row_version 1 again. A cached entry of
-- the deleted row then looked as new as the row, or newer, and an update of the deleted row's record passed its check.
-- TRUNCATE left no outbox rows at all, and `UPDATE ... SET id = DEFAULT` none for the id that the row had before.

-- A new row starts above every version that a deleted row of its id can have had: a row is not updated once per
-- microsecond. Numbers stay below 2^53, up to which the scripts in Redis compare exactly, until the year 2255.
CREATE FUNCTION start_row_version() RETURNS trigger
LANGUAGE plpgsql
SET search_path = groundwork, pg_temp
AS $$
BEGIN
    NEW.row_version := extract(epoch FROM clock_timestamp()) * 1000000;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION start_row_version() IS
    'BEFORE INSERT, each row: sets row_version to the microseconds since 1970, whatever the statement says.';

REVOKE ALL ON FUNCTION start_row_version() FROM PUBLIC;

CREATE TRIGGER users_start_version BEFORE INSERT ON users
    FOR EACH ROW EXECUTE FUNCTION start_row_version();
CREATE TRIGGER organizations_start_version BEFORE INSERT ON organizations
    FOR EACH ROW EXECUTE FUNCTION start_row_version();
CREATE TRIGGER repositories_start_version BEFORE INSERT ON repositories
    FOR EACH ROW EXECUTE FUNCTION start_row_version();

COMMENT ON COLUMN users.row_version IS
    'Starts at the microseconds since 1970, grows by one with each update but those of tokens alone; kept by triggers.';
COMMENT ON COLUMN organizations.row_version IS
    'Starts at the microseconds since 1970, grows by one with each update; kept by triggers.';
COMMENT ON COLUMN repositories.row_version IS
    'Starts at the microseconds since 1970, grows by one with each update; kept by triggers.';

CREATE OR REPLACE FUNCTION keep_row_version() RETURNS trigger
LANGUAGE plpgsql
SET search_path = groundwork, pg_temp
AS $$
BEGIN
    NEW.id := OLD.id;
    NEW.row_version := OLD.row_version + 1;
    NEW.created_at := OLD.created_at;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION keep_row_version() IS
    'BEFORE UPDATE, each row: bumps row_version, sets updated_at, keeps id and created_at.';

CREATE OR REPLACE FUNCTION keep_user_row_version() RETURNS trigger
LANGUAGE plpgsql
SET search_path = groundwork, pg_temp
AS $$
DECLARE
    tokens constant text[] := '{access_token,refresh_token}';
BEGIN
    NEW.id := OLD.id;
    NEW.created_at := OLD.created_at;
    NEW.row_version := OLD.row_version;
    NEW.updated_at := OLD.updated_at;
    IF (OLD.access_token, OLD.refresh_token) IS NOT DISTINCT FROM (NEW.access_token, NEW.refresh_token)
       OR to_jsonb(OLD) - tokens <> to_jsonb(NEW) - tokens THEN
        NEW.row_version := OLD.row_version + 1;
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END
$$;

-- SECURITY DEFINER: only triggers write the outbox.
CREATE FUNCTION write_truncated_outbox() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = groundwork, pg_temp
AS $$
DECLARE
    recorded bigint;
BEGIN
    EXECUTE format(
        'INSERT INTO cache_outbox (entity, entity_id) SELECT DISTINCT %L, %I FROM %I.%I WHERE %2$I IS NOT NULL',
        TG_ARGV[0], TG_ARGV[1], TG_TABLE_SCHEMA, TG_TABLE_NAME
    );
    GET DIAGNOSTICS recorded = ROW_COUNT;
    IF recorded > 0 THEN
        PERFORM pg_notify('cache_outbox', '');
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION write_truncated_outbox() IS
    'BEFORE TRUNCATE: one outbox row for each value of a column; the arguments are the entity and the column.';

REVOKE ALL ON FUNCTION write_truncated_outbox() FROM PUBLIC;

CREATE TRIGGER users_outbox_truncate BEFORE TRUNCATE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION write_truncated_outbox('user', 'id');
CREATE TRIGGER organizations_outbox_truncate BEFORE TRUNCATE ON organizations
    FOR EACH STATEMENT EXECUTE FUNCTION write_truncated_outbox('organization', 'id');
CREATE TRIGGER repositories_outbox_truncate BEFORE TRUNCATE ON repositories
    FOR EACH STATEMENT EXECUTE FUNCTION write_truncated_outbox('repository', 'id');
CREATE TRIGGER activities_outbox_truncate_users BEFORE TRUNCATE ON activities
    FOR EACH STATEMENT EXECUTE FUNCTION write_truncated_outbox('user_feed', 'user_id');
CREATE TRIGGER activities_outbox_truncate_repositories BEFORE TRUNCATE ON activities
    FOR EACH STATEMENT EXECUTE FUNCTION write_truncated_outbox('repository_feed', 'repo_id');
