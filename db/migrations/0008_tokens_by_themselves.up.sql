-- Tokens are no part of a user as the application reads one: writing them alone changes neither row_version, on
-- which updates of the user rest, nor updated_at. A function of its own, for a trigger's list of columns would
-- stand in the way of changing their types.
CREATE FUNCTION keep_user_row_version() RETURNS trigger
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

COMMENT ON FUNCTION keep_user_row_version() IS
    'BEFORE UPDATE, each row: as keep_row_version, but for updates of the tokens alone, which leave both as they are.';

REVOKE ALL ON FUNCTION keep_user_row_version() FROM PUBLIC;

CREATE OR REPLACE TRIGGER users_row_version BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION keep_user_row_version();

COMMENT ON COLUMN users.updated_at IS
    'When the row was last updated, but for its tokens; kept by a trigger.';
COMMENT ON COLUMN users.row_version IS
    'Grows by one with each update but those of tokens alone; kept by a trigger.';
