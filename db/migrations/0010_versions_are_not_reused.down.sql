DROP TRIGGER activities_outbox_truncate_repositories ON activities;
DROP TRIGGER activities_outbox_truncate_users ON activities;
DROP TRIGGER repositories_outbox_truncate ON repositories;
DROP TRIGGER organizations_outbox_truncate ON organizations;
DROP TRIGGER users_outbox_truncate ON users;

DROP FUNCTION write_truncated_outbox();

DROP TRIGGER repositories_start_version ON repositories;
DROP TRIGGER organizations_start_version ON organizations;
DROP TRIGGER users_start_version ON users;

DROP FUNCTION start_row_version();

COMMENT ON COLUMN repositories.row_version IS 'Grows by one with each update; kept by a trigger.';
COMMENT ON COLUMN organizations.row_version IS 'Grows by one with each update; kept by a trigger.';
COMMENT ON COLUMN users.row_version IS
    'Grows by one with each update but those of tokens alone; kept by a trigger.';

CREATE OR REPLACE FUNCTION keep_user_row_version() RETURNS trigger
LANGUAGE plpgsql
SET search_path = groundwork, pg_temp
AS $$
DECLARE
    tokens constant text[] := '{access_token,refresh_token}';
BEGIN
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

CREATE OR REPLACE FUNCTION keep_row_version() RETURNS trigger
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
