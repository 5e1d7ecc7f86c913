-- Users. The columns are in the order of db.models.User's fields, which do not include tokens.

-- name: find_user :read
-- Find a user by its id.
-- takes: id int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE id = %(id)s;

-- name: find_user_by_github_id :read
-- Find a user by its GitHub id.
-- takes: github_id int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE github_id = %(github_id)s;

-- name: find_users :read
-- Find users by their ids, in no order.
-- takes: ids list[int]
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE id = ANY(%(ids)s);

-- name: lock_user :write
-- Find a user by its id, and keep others from changing, deleting or locking it until the transaction ends.
-- takes: id int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE id = %(id)s
FOR NO KEY UPDATE;

-- name: list_users :read
-- List users after an id, ordered by id.
-- takes: after_id int, limit int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: list_users_by_username :read
-- List users with a name, in any case, after an id, ordered by id. GitHub users can rename themselves, so there may be
-- several. `username` is given in lower case.
-- takes: username str, after_id int, limit int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE lower(username COLLATE "C") = %(username)s AND id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: count_users :read
-- Count all users.
-- takes: nothing
-- gives: int
-- never null: count
SELECT count(*) FROM users;

-- name: find_user_versions :read
-- Find the row versions of users by their ids, in no order.
-- takes: ids list[int]
-- gives: RowVersion
SELECT id, row_version FROM users WHERE id = ANY(%(ids)s);

-- name: add_user :write
-- Insert a user.
-- takes: github_id int, username str, email str | None, preferences dict
-- gives: User
INSERT INTO users (github_id, username, email, preferences)
VALUES (%(github_id)s, %(username)s, %(email)s, %(preferences)s)
RETURNING id, github_id, username, email, preferences, created_at, updated_at, row_version;

-- name: upsert_user :write
-- Insert a user, or update the one with its GitHub id. Columns whose sets_... flag is false are kept.
-- takes: github_id int, username str, email str | None, preferences dict, sets_email bool, sets_preferences bool
-- gives: User
INSERT INTO users (github_id, username, email, preferences)
VALUES (%(github_id)s, %(username)s, %(email)s, %(preferences)s)
ON CONFLICT (github_id) DO UPDATE SET
    username = excluded.username,
    email = CASE WHEN %(sets_email)s THEN excluded.email ELSE users.email END,
    preferences = CASE WHEN %(sets_preferences)s THEN excluded.preferences ELSE users.preferences END
RETURNING id, github_id, username, email, preferences, created_at, updated_at, row_version;

-- name: upsert_users :write
-- Insert users, or update those with their GitHub ids. Columns whose sets_... flag is false are kept. The order is that
-- of the GitHub ids, so that two callers take their locks in the same order.
-- takes: records dict, sets_email bool, sets_preferences bool
-- gives: User
INSERT INTO users (github_id, username, email, preferences)
SELECT new.github_id, new.username, new.email, new.preferences
FROM jsonb_to_recordset(%(records)s) AS new (github_id bigint, username text, email text, preferences jsonb)
ORDER BY new.github_id
ON CONFLICT (github_id) DO UPDATE SET
    username = excluded.username,
    email = CASE WHEN %(sets_email)s THEN excluded.email ELSE users.email END,
    preferences = CASE WHEN %(sets_preferences)s THEN excluded.preferences ELSE users.preferences END
RETURNING id, github_id, username, email, preferences, created_at, updated_at, row_version;

-- name: update_user :write
-- Update a user unless it was changed since it was read.
-- takes: id int, row_version int, github_id int, username str, email str | None, preferences dict
-- gives: User
UPDATE users
SET github_id = %(github_id)s, username = %(username)s, email = %(email)s, preferences = %(preferences)s
WHERE id = %(id)s AND row_version = %(row_version)s
RETURNING id, github_id, username, email, preferences, created_at, updated_at, row_version;

-- name: patch_user :write
-- Change the columns of a user that `changes` names. If a row version is given, only at that version.
-- takes: id int, row_version int | None, changes dict
-- gives: User
UPDATE users AS stored
SET (github_id, username, email, preferences) = (
    SELECT new.github_id, new.username, new.email, new.preferences
    FROM jsonb_populate_record(stored, %(changes)s) AS new
)
WHERE stored.id = %(id)s AND stored.row_version = coalesce(%(row_version)s, stored.row_version)
RETURNING
    stored.id, stored.github_id, stored.username, stored.email, stored.preferences,
    stored.created_at, stored.updated_at, stored.row_version;

-- name: delete_user :write
-- Delete a user and its activities.
-- takes: id int
-- gives: int
DELETE FROM users WHERE id = %(id)s RETURNING id;

-- name: delete_users :write
-- Delete users by their ids, with their activities.
-- takes: ids list[int]
-- gives: int
DELETE FROM users WHERE id = ANY(%(ids)s) RETURNING id;
