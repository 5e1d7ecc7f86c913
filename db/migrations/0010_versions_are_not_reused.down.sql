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
