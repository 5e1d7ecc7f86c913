CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    github_id bigint NOT NULL UNIQUE CHECK (github_id > 0),
    username text NOT NULL CHECK (username <> ''),
    email text,
    access_token bytea,
    refresh_token bytea,
    preferences jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(preferences) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    row_version bigint NOT NULL DEFAULT 1
);

COMMENT ON TABLE users IS 'People, as GitHub knows them, with what they prefer here.';
COMMENT ON COLUMN users.id IS 'Our own identity of the user; never reused.';
COMMENT ON COLUMN users.github_id IS 'GitHub''s number of the account; stays when the account is renamed.';
COMMENT ON COLUMN users.username IS 'The login as last seen; not unique, for people rename.';
COMMENT ON COLUMN users.email IS 'The address, where the user shows one.';
COMMENT ON COLUMN users.access_token IS 'Ciphertext of the OAuth access token; the key is not in the database.';
COMMENT ON COLUMN users.refresh_token IS 'Ciphertext of the OAuth refresh token; the key is not in the database.';
COMMENT ON COLUMN users.preferences IS 'A JSON object of settings that belong to the application.';
COMMENT ON COLUMN users.created_at IS 'When the row was made.';
COMMENT ON COLUMN users.updated_at IS 'When the row was last updated; kept by a trigger.';
COMMENT ON COLUMN users.row_version IS 'Grows by one with each update; kept by a trigger.';

CREATE INDEX users_username_idx ON users (username);

CREATE TRIGGER users_row_version BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION keep_row_version();

CREATE TRIGGER users_outbox_insert AFTER INSERT ON users
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('user');
CREATE TRIGGER users_outbox_update AFTER UPDATE ON users
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('user');
CREATE TRIGGER users_outbox_delete AFTER DELETE ON users
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('user');

GRANT SELECT, INSERT, UPDATE, DELETE ON users TO app;
-- Column by column: the tokens are not for readonly, and neither is a column added later, unless it says so.
GRANT SELECT (
    id, github_id, username, email, preferences, created_at, updated_at, row_version
) ON users TO readonly;
