-- The import of GitHub Archive. Rows are inserted in the order of their GitHub ids, so that two imports take their
-- locks in the same order.

-- name: find_known_events :read
-- Find the stored events with these ids. first and last are the earliest and the latest of their timestamps.
-- takes: ids list[int], first datetime, last datetime
-- gives: KnownEvent
SELECT github_event_id, timestamp
FROM activities
WHERE github_event_id = ANY(%(ids)s) AND timestamp BETWEEN %(first)s AND %(last)s;

-- name: find_known_organizations :read
-- Find the organizations that are stored.
-- takes: github_ids list[int]
-- gives: KnownParty
SELECT github_id, id, name FROM organizations WHERE github_id = ANY(%(github_ids)s);

-- name: find_known_users :read
-- Find the users that are stored.
-- takes: github_ids list[int]
-- gives: KnownParty
SELECT github_id, id, username AS name FROM users WHERE github_id = ANY(%(github_ids)s);

-- name: find_known_repositories :read
-- Find the repositories that are stored.
-- takes: github_ids list[int]
-- gives: KnownRepository
SELECT r.github_id, r.id, r.name, o.github_id AS org_github_id
FROM repositories AS r
LEFT JOIN organizations AS o ON o.id = r.org_id
WHERE r.github_id = ANY(%(github_ids)s);

-- name: import_organizations :write
-- Insert new organizations.
-- takes: github_ids list[int], names list[str]
-- gives: int
INSERT INTO organizations (github_id, name)
SELECT * FROM unnest(%(github_ids)s::bigint[], %(names)s::text[]) AS new (github_id, name) ORDER BY github_id
ON CONFLICT (github_id) DO NOTHING
RETURNING id;

-- name: rename_organizations :write
-- Rename organizations with a new name.
-- takes: github_ids list[int], names list[str]
-- gives: int
UPDATE organizations AS o
SET name = new.name
FROM unnest(%(github_ids)s::bigint[], %(names)s::text[]) AS new (github_id, name)
WHERE o.github_id = new.github_id AND o.name <> new.name
RETURNING o.id;

-- name: import_users :write
-- Insert new users.
-- takes: github_ids list[int], names list[str]
-- gives: int
INSERT INTO users (github_id, username)
SELECT * FROM unnest(%(github_ids)s::bigint[], %(names)s::text[]) AS new (github_id, name) ORDER BY github_id
ON CONFLICT (github_id) DO NOTHING
RETURNING id;

-- name: rename_users :write
-- Rename users with a new name, unless a later activity of the user is stored.
-- takes: github_ids list[int], names list[str], seen_at list[datetime]
-- gives: int
UPDATE users AS u
SET username = new.name
FROM unnest(%(github_ids)s::bigint[], %(names)s::text[], %(seen_at)s::timestamptz[]) AS new (github_id, name, seen_at)
WHERE u.github_id = new.github_id
  AND u.username <> new.name
  AND NOT EXISTS (SELECT FROM activities AS a WHERE a.user_id = u.id AND a.timestamp > new.seen_at)
RETURNING u.id;

-- name: import_repositories :write
-- Insert new repositories, with their organizations if those are stored.
-- takes: github_ids list[int], names list[str], org_github_ids list[int | None]
-- gives: int
INSERT INTO repositories (github_id, name, org_id)
SELECT new.github_id, new.name, o.id
FROM unnest(%(github_ids)s::bigint[], %(names)s::text[], %(org_github_ids)s::bigint[])
    AS new (github_id, name, org_github_id)
LEFT JOIN organizations AS o ON o.github_id = new.org_github_id
ORDER BY new.github_id
ON CONFLICT (github_id) DO NOTHING
RETURNING id;

-- name: lock_repository_states :write
-- Lock repositories, and return their names, organizations, and the times of their latest activities. Activities that
-- this transaction stored do not count.
-- takes: github_ids list[int]
-- gives: RepositoryState
SELECT r.github_id, r.name, o.github_id AS org_github_id,
       (SELECT max(a.timestamp) FROM activities AS a WHERE a.repo_id = r.id AND a.xmin <> pg_current_xact_id()::xid) AS seen_at
FROM repositories AS r
LEFT JOIN organizations AS o ON o.id = r.org_id
WHERE r.github_id = ANY(%(github_ids)s)
ORDER BY r.github_id
FOR NO KEY UPDATE OF r;

-- name: update_repositories :write
-- Update repositories with another name or organization.
-- takes: github_ids list[int], names list[str], org_github_ids list[int | None]
-- gives: int
UPDATE repositories AS r
SET name = new.name, org_id = o.id
FROM unnest(%(github_ids)s::bigint[], %(names)s::text[], %(org_github_ids)s::bigint[])
    AS new (github_id, name, org_github_id)
LEFT JOIN organizations AS o ON o.github_id = new.org_github_id
WHERE r.github_id = new.github_id
  AND (r.name, r.org_id) IS DISTINCT FROM (new.name, o.id)
RETURNING r.id;
