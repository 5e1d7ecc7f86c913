-- Tokens are no part of a user as the application reads one: writing them alone changes neither row_version, on
-- which updates of the user rest, nor updated_at.
CREATE OR REPLACE TRIGGER users_row_version
    BEFORE UPDATE OF id, github_id, username, email, preferences, created_at, updated_at, row_version ON users
    FOR EACH ROW EXECUTE FUNCTION keep_row_version();

COMMENT ON COLUMN users.updated_at IS
    'When the row was last updated, but for its tokens; kept by a trigger.';
COMMENT ON COLUMN users.row_version IS
    'Grows by one with each update but those of tokens alone; kept by a trigger.';
