CREATE TABLE repositories (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    github_id bigint NOT NULL UNIQUE CHECK (github_id > 0),
    org_id bigint REFERENCES organizations (id) ON DELETE SET NULL,
    name text NOT NULL CHECK (name <> ''),
    description text,
    language text,
    stars integer NOT NULL DEFAULT 0 CHECK (stars >= 0),
    forks integer NOT NULL DEFAULT 0 CHECK (forks >= 0),
    issues integer NOT NULL DEFAULT 0 CHECK (issues >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    row_version bigint NOT NULL DEFAULT 1
);

COMMENT ON TABLE repositories IS 'Repositories, as GitHub knows them.';
COMMENT ON COLUMN repositories.id IS 'Our own identity of the repository; never reused.';
COMMENT ON COLUMN repositories.github_id IS 'GitHub''s number of the repository; stays when it is renamed.';
COMMENT ON COLUMN repositories.org_id IS
    'The organization it belongs to; null for a person''s, and once the organization is deleted.';
COMMENT ON COLUMN repositories.name IS 'The full name, owner/name, as last seen.';
COMMENT ON COLUMN repositories.description IS 'What the repository says of itself.';
COMMENT ON COLUMN repositories.language IS 'The main language; null where there is none.';
COMMENT ON COLUMN repositories.stars IS 'Stars as last counted.';
COMMENT ON COLUMN repositories.forks IS 'Forks as last counted.';
COMMENT ON COLUMN repositories.issues IS 'Open issues as last counted.';
COMMENT ON COLUMN repositories.created_at IS 'When the row was made.';
COMMENT ON COLUMN repositories.updated_at IS 'When the row was last updated; kept by a trigger.';
COMMENT ON COLUMN repositories.row_version IS 'Grows by one with each update; kept by a trigger.';

-- The id at the end of each makes the order total, which keyset pagination needs.
CREATE INDEX repositories_org_idx ON repositories (org_id, id);
CREATE INDEX repositories_stars_idx ON repositories (stars DESC, id DESC);
CREATE INDEX repositories_language_idx ON repositories (language, stars DESC, id DESC);

CREATE TRIGGER repositories_row_version BEFORE UPDATE ON repositories
    FOR EACH ROW EXECUTE FUNCTION keep_row_version();

CREATE TRIGGER repositories_outbox_insert AFTER INSERT ON repositories
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('repository');
CREATE TRIGGER repositories_outbox_update AFTER UPDATE ON repositories
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('repository');
CREATE TRIGGER repositories_outbox_delete AFTER DELETE ON repositories
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('repository');

GRANT SELECT, INSERT, UPDATE, DELETE ON repositories TO app;
GRANT SELECT ON repositories TO readonly;
