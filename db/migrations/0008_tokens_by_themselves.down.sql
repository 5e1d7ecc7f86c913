CREATE OR REPLACE TRIGGER users_row_version BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION keep_row_version();

DROP FUNCTION keep_user_row_version();

COMMENT ON COLUMN users.updated_at IS 'When the row was last updated; kept by a trigger.';
COMMENT ON COLUMN users.row_version IS 'Grows by one with each update; kept by a trigger.';
