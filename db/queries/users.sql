-- Users. The columns come in the order of db.models.User's fields; tokens are none of them.

-- name: find_user :read
-- A user by its id.
-- takes: id int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE id = %(id)s;

-- name: find_user_by_github_id :read
-- A user by its GitHub number.
-- takes: github_id int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE github_id = %(github_id)s;

-- name: find_users :read
-- Users by their ids, in no order.
-- takes: ids list[int]
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE id = ANY(%(ids)s);

-- name: list_users :read
-- Users after one of them, oldest id first.
-- takes: after_id int, limit int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: list_users_by_username :read
-- Users of one name after one of them: people rename, so there may be several.
-- takes: username str, after_id int, limit int
-- gives: User
SELECT id, github_id, username, email, preferences, created_at, updated_at, row_version
FROM users
WHERE username = %(username)s AND id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: add_user :write
-- A new user.
-- takes: github_id int, username str, email str | None, preferences dict
-- gives: User
INSERT INTO users (github_id, username, email, preferences)
VALUES (%(github_id)s, %(username)s, %(email)s, %(preferences)s)
RETURNING id, github_id, username, email, preferences, created_at, updated_at, row_version;

-- name: upsert_user :write
-- A user by its GitHub number, made or brought up to date; what is not known is kept.
-- takes: github_id int, username str, email str | None, preferences dict, sets_email bool, sets_preferences bool
-- gives: User
INSERT INTO users (github_id, username, email, preferences)
VALUES (%(github_id)s, %(username)s, %(email)s, %(preferences)s)
ON CONFLICT (github_id) DO UPDATE SET
    username = excluded.username,
    email = CASE WHEN %(sets_email)s THEN excluded.email ELSE users.email END,
    preferences = CASE WHEN %(sets_preferences)s THEN excluded.preferences ELSE users.preferences END
RETURNING id, github_id, username, email, preferences, created_at, updated_at, row_version;

-- name: update_user :write
-- A user as it is to be, unless it has changed since it was read.
-- takes: id int, row_version int, github_id int, username str, email str | None, preferences dict
-- gives: User
UPDATE users
SET github_id = %(github_id)s, username = %(username)s, email = %(email)s, preferences = %(preferences)s
WHERE id = %(id)s AND row_version = %(row_version)s
RETURNING id, github_id, username, email, preferences, created_at, updated_at, row_version;

-- name: delete_user :write
-- A user gone, with its activities.
-- takes: id int
-- gives: int
DELETE FROM users WHERE id = %(id)s RETURNING id;
