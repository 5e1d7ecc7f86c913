-- The import of GitHub Archive: parties are made or renamed, in the order of their numbers, so that two imports
-- take their locks in one order.

-- name: find_known_events :read
-- Which of these events are stored; first and last are the earliest and the latest of the timestamps.
-- takes: ids list[int], timestamps list[datetime], first datetime, last datetime
-- gives: int
-- never null: github_event_id
SELECT github_event_id
FROM activities
WHERE (github_event_id, timestamp) IN (SELECT * FROM unnest(%(ids)s::bigint[], %(timestamps)s::timestamptz[]))
  AND timestamp BETWEEN %(first)s AND %(last)s;

-- name: import_organizations :write
-- Organizations that are new, and those that go by another name now.
-- takes: github_ids list[int], names list[str]
-- gives: int
INSERT INTO organizations (github_id, name)
SELECT * FROM unnest(%(github_ids)s::bigint[], %(names)s::text[]) AS new (github_id, name) ORDER BY github_id
ON CONFLICT (github_id) DO UPDATE SET name = excluded.name WHERE organizations.name <> excluded.name
RETURNING id;

-- name: import_users :write
-- Users that are new.
-- takes: github_ids list[int], names list[str]
-- gives: int
INSERT INTO users (github_id, username)
SELECT * FROM unnest(%(github_ids)s::bigint[], %(names)s::text[]) AS new (github_id, name) ORDER BY github_id
ON CONFLICT (github_id) DO NOTHING
RETURNING id;

-- name: rename_users :write
-- Users that go by another name since; one of whom something later is stored is known better.
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
-- Repositories that are new, with their organizations where those are known.
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

-- name: rename_repositories :write
-- Repositories that have another name or organization since; one of which something later is stored is known better.
-- takes: github_ids list[int], names list[str], org_github_ids list[int | None], seen_at list[datetime]
-- gives: int
UPDATE repositories AS r
SET name = new.name, org_id = coalesce(o.id, r.org_id)
FROM unnest(%(github_ids)s::bigint[], %(names)s::text[], %(org_github_ids)s::bigint[], %(seen_at)s::timestamptz[])
    AS new (github_id, name, org_github_id, seen_at)
LEFT JOIN organizations AS o ON o.github_id = new.org_github_id
WHERE r.github_id = new.github_id
  AND (r.name, r.org_id) IS DISTINCT FROM (new.name, coalesce(o.id, r.org_id))
  AND NOT EXISTS (SELECT FROM activities AS a WHERE a.repo_id = r.id AND a.timestamp > new.seen_at)
RETURNING r.id;

-- name: find_user_ids :read
-- Our ids of users by GitHub's numbers.
-- takes: github_ids list[int]
-- gives: GithubId
SELECT github_id, id FROM users WHERE github_id = ANY(%(github_ids)s);

-- name: find_repository_ids :read
-- Our ids of repositories by GitHub's numbers.
-- takes: github_ids list[int]
-- gives: GithubId
SELECT github_id, id FROM repositories WHERE github_id = ANY(%(github_ids)s);
