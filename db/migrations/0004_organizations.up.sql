CREATE TABLE organizations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    github_id bigint NOT NULL UNIQUE CHECK (github_id > 0),
    name text NOT NULL CHECK (name <> ''),
    description text,
    member_count integer NOT NULL DEFAULT 0 CHECK (member_count >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    row_version bigint NOT NULL DEFAULT 1
);

COMMENT ON TABLE organizations IS 'Organizations, as GitHub knows them.';
COMMENT ON COLUMN organizations.id IS 'Our own identity of the organization; never reused.';
COMMENT ON COLUMN organizations.github_id IS 'GitHub''s number of the organization.';
COMMENT ON COLUMN organizations.name IS 'The login as last seen; not unique, for organizations rename.';
COMMENT ON COLUMN organizations.description IS 'What the organization says of itself.';
COMMENT ON COLUMN organizations.member_count IS 'Members as last counted.';
COMMENT ON COLUMN organizations.created_at IS 'When the row was made.';
COMMENT ON COLUMN organizations.updated_at IS 'When the row was last updated; kept by a trigger.';
COMMENT ON COLUMN organizations.row_version IS 'Grows by one with each update; kept by a trigger.';

CREATE TRIGGER organizations_row_version BEFORE UPDATE ON organizations
    FOR EACH ROW EXECUTE FUNCTION keep_row_version();

CREATE TRIGGER organizations_outbox_insert AFTER INSERT ON organizations
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('organization');
CREATE TRIGGER organizations_outbox_update AFTER UPDATE ON organizations
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('organization');
CREATE TRIGGER organizations_outbox_delete AFTER DELETE ON organizations
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('organization');

GRANT SELECT, INSERT, UPDATE, DELETE ON organizations TO app;
GRANT SELECT ON organizations TO readonly;
