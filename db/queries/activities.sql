-- Activities. The columns are in the order of db.models.Activity's fields. Each row comparison has an additional
-- condition on timestamp alone, because Postgres does not prune partitions by a row comparison.

-- name: find_activity :read
-- Find an activity by its key.
-- takes: id int, timestamp datetime
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE id = %(id)s AND timestamp = %(timestamp)s;

-- name: find_activity_by_event :read
-- Find an activity by GitHub's event id and its timestamp.
-- takes: github_event_id int, timestamp datetime
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE github_event_id = %(github_event_id)s AND timestamp = %(timestamp)s;

-- name: find_activities :read
-- Find activities by their keys, in no order. first and last are the earliest and the latest of the timestamps.
-- takes: ids list[int], timestamps list[datetime], first datetime, last datetime
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE (id, timestamp) IN (SELECT * FROM unnest(%(ids)s::bigint[], %(timestamps)s::timestamptz[]))
  AND timestamp BETWEEN %(first)s AND %(last)s;

-- name: list_activities :read
-- List activities before an id, the last stored first, which is the order of the primary key's index.
-- takes: before_id int, limit int
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE id < %(before_id)s
ORDER BY id DESC
LIMIT %(limit)s;

-- name: list_user_feed :read
-- List a user's activities before a position, newest first.
-- takes: user_id int, before datetime, before_id int, limit int
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE user_id = %(user_id)s AND timestamp <= %(before)s AND (timestamp, id) < (%(before)s, %(before_id)s)
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s;

-- name: list_repository_feed :read
-- List a repository's activities before a position, newest first.
-- takes: repo_id int, before datetime, before_id int, limit int
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE repo_id = %(repo_id)s AND timestamp <= %(before)s AND (timestamp, id) < (%(before)s, %(before_id)s)
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s;

-- name: list_activities_by_type :read
-- List activities of a type since a point in time and before a position, newest first.
-- takes: type str, since datetime, before datetime, before_id int, limit int
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE type = %(type)s
  AND timestamp >= %(since)s
  AND timestamp <= %(before)s AND (timestamp, id) < (%(before)s, %(before_id)s)
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s;

-- name: add_activity :write
-- Insert an activity.
-- takes: github_event_id int | None, user_id int, repo_id int | None, type str, timestamp datetime, data dict
-- gives: Activity
INSERT INTO activities (github_event_id, user_id, repo_id, type, timestamp, data)
VALUES (%(github_event_id)s, %(user_id)s, %(repo_id)s, %(type)s, %(timestamp)s, %(data)s)
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: upsert_activity :write
-- Insert an activity, or update the one with its GitHub event id and timestamp if it has the old user and repository.
-- takes: github_event_id int, user_id int, repo_id int | None, type str, timestamp datetime, data dict, old_user_id int, old_repo_id int | None
-- gives: Activity
INSERT INTO activities (github_event_id, user_id, repo_id, type, timestamp, data)
VALUES (%(github_event_id)s, %(user_id)s, %(repo_id)s, %(type)s, %(timestamp)s, %(data)s)
ON CONFLICT (github_event_id, timestamp) DO UPDATE SET
    user_id = excluded.user_id, repo_id = excluded.repo_id, type = excluded.type, data = excluded.data
WHERE activities.user_id = %(old_user_id)s AND activities.repo_id IS NOT DISTINCT FROM %(old_repo_id)s
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: update_activity :write
-- Update an activity unless it was changed since it was read. Its timestamp is part of the key and stays.
-- takes: id int, timestamp datetime, row_version int, github_event_id int | None, user_id int, repo_id int | None, type str, data dict
-- gives: Activity
UPDATE activities
SET github_event_id = %(github_event_id)s, user_id = %(user_id)s, repo_id = %(repo_id)s, type = %(type)s, data = %(data)s
WHERE id = %(id)s AND timestamp = %(timestamp)s AND row_version = %(row_version)s
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: delete_activity :write
-- Delete an activity and return it, because its feeds must be invalidated.
-- takes: id int, timestamp datetime
-- gives: Activity
DELETE FROM activities
WHERE id = %(id)s AND timestamp = %(timestamp)s
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: find_absent_months :read
-- Find those of these months, each given by its start in UTC, that have no partition.
-- takes: months list[datetime]
-- gives: datetime
-- never null: month
SELECT month
FROM unnest(%(months)s::timestamptz[]) AS new (month)
WHERE to_regclass('activities_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')) IS NULL;

-- name: make_partitions :write
-- Create the missing monthly partitions between two points in time, and return their names.
-- takes: since datetime, until datetime
-- gives: str
-- never null: partition
SELECT make_activity_partitions(%(since)s, %(until)s) AS partition;

-- name: make_activity_partitions :write
-- Create the missing monthly partitions of activities up to three months ahead, and return their names.
-- takes: nothing
-- gives: str
-- never null: partition
SELECT make_activity_partitions(now(), now() + interval '3 months') AS partition;

-- name: copy_activities :write
-- Load activities in bulk, as rows in binary format.
-- takes: nothing
-- gives: nothing
COPY activities (github_event_id, user_id, repo_id, type, timestamp, data) FROM STDIN WITH (FORMAT binary);
