-- Activities. The columns come in the order of db.models.Activity's fields. A bound on timestamp alone stands
-- beside each row comparison: from that one no partition would be pruned.

-- name: find_activity :read
-- An activity by its key.
-- takes: id int, timestamp datetime
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE id = %(id)s AND timestamp = %(timestamp)s;

-- name: find_activities :read
-- Activities by their keys, in no order; first and last are the earliest and the latest of the timestamps.
-- takes: ids list[int], timestamps list[datetime], first datetime, last datetime
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE (id, timestamp) IN (SELECT * FROM unnest(%(ids)s::bigint[], %(timestamps)s::timestamptz[]))
  AND timestamp BETWEEN %(first)s AND %(last)s;

-- name: list_activities :read
-- Activities before one of them, the last stored first: the key's index has them in this order, the time's has not.
-- takes: before_id int, limit int
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE id < %(before_id)s
ORDER BY id DESC
LIMIT %(limit)s;

-- name: list_user_feed :read
-- A user's activities before a place, newest first.
-- takes: user_id int, before datetime, before_id int, limit int
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE user_id = %(user_id)s AND timestamp <= %(before)s AND (timestamp, id) < (%(before)s, %(before_id)s)
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s;

-- name: list_repository_feed :read
-- A repository's activities before a place, newest first.
-- takes: repo_id int, before datetime, before_id int, limit int
-- gives: Activity
SELECT id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version
FROM activities
WHERE repo_id = %(repo_id)s AND timestamp <= %(before)s AND (timestamp, id) < (%(before)s, %(before_id)s)
ORDER BY timestamp DESC, id DESC
LIMIT %(limit)s;

-- name: list_activities_by_type :read
-- Activities of a type since a point in time and before a place, newest first.
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
-- A new activity.
-- takes: github_event_id int | None, user_id int, repo_id int | None, type str, timestamp datetime, data dict
-- gives: Activity
INSERT INTO activities (github_event_id, user_id, repo_id, type, timestamp, data)
VALUES (%(github_event_id)s, %(user_id)s, %(repo_id)s, %(type)s, %(timestamp)s, %(data)s)
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: upsert_activity :write
-- An activity by GitHub's number of the event and its time, made or brought up to date.
-- takes: github_event_id int, user_id int, repo_id int | None, type str, timestamp datetime, data dict
-- gives: Activity
INSERT INTO activities (github_event_id, user_id, repo_id, type, timestamp, data)
VALUES (%(github_event_id)s, %(user_id)s, %(repo_id)s, %(type)s, %(timestamp)s, %(data)s)
ON CONFLICT (github_event_id, timestamp) DO UPDATE SET
    user_id = excluded.user_id, repo_id = excluded.repo_id, type = excluded.type, data = excluded.data
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: update_activity :write
-- An activity as it is to be, unless it has changed since it was read; its timestamp is part of its key.
-- takes: id int, timestamp datetime, row_version int, github_event_id int | None, user_id int, repo_id int | None, type str, data dict
-- gives: Activity
UPDATE activities
SET github_event_id = %(github_event_id)s, user_id = %(user_id)s, repo_id = %(repo_id)s, type = %(type)s, data = %(data)s
WHERE id = %(id)s AND timestamp = %(timestamp)s AND row_version = %(row_version)s
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: delete_activity :write
-- An activity gone; it comes back as it was, for its feeds have to be told.
-- takes: id int, timestamp datetime
-- gives: Activity
DELETE FROM activities
WHERE id = %(id)s AND timestamp = %(timestamp)s
RETURNING id, github_event_id, user_id, repo_id, type, timestamp, data, created_at, updated_at, row_version;

-- name: find_absent_months :read
-- Which of these months, each by its first moment in UTC, have no partition.
-- takes: months list[datetime]
-- gives: datetime
-- never null: month
SELECT month
FROM unnest(%(months)s::timestamptz[]) AS new (month)
WHERE to_regclass('activities_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')) IS NULL;

-- name: make_partitions :write
-- The monthly partitions that were missing from the first to the second point in time, now made.
-- takes: since datetime, until datetime
-- gives: str
-- never null: partition
SELECT make_activity_partitions(%(since)s, %(until)s) AS partition;

-- name: copy_activities :write
-- Activities in bulk, as text rows.
-- takes: nothing
-- gives: nothing
COPY activities (github_event_id, user_id, repo_id, type, timestamp, data) FROM STDIN;
