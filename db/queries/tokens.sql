-- Tokens of users, as ciphertext. They are read and written separately, never with the user.

-- name: find_tokens :read
-- Find a user's tokens.
-- takes: id int
-- gives: SealedTokens
SELECT id, access_token, refresh_token FROM users WHERE id = %(id)s;

-- name: set_tokens :write
-- Set a user's tokens. A token whose sets_... flag is false is kept.
-- takes: id int, access_token bytes | None, refresh_token bytes | None, sets_access_token bool, sets_refresh_token bool
-- gives: int
UPDATE users
SET access_token = CASE WHEN %(sets_access_token)s THEN %(access_token)s ELSE access_token END,
    refresh_token = CASE WHEN %(sets_refresh_token)s THEN %(refresh_token)s ELSE refresh_token END
WHERE id = %(id)s
RETURNING id;

-- name: list_tokens :read
-- List the tokens of users after an id who have any, ordered by id.
-- takes: after_id int, limit int
-- gives: SealedTokens
SELECT id, access_token, refresh_token
FROM users
WHERE id > %(after_id)s AND (access_token IS NOT NULL OR refresh_token IS NOT NULL)
ORDER BY id
LIMIT %(limit)s;

-- name: swap_tokens :write
-- Replace a user's tokens unless they were changed since they were read.
-- takes: id int, access_token bytes | None, refresh_token bytes | None, old_access_token bytes | None, old_refresh_token bytes | None
-- gives: int
UPDATE users
SET access_token = %(access_token)s, refresh_token = %(refresh_token)s
WHERE id = %(id)s
  AND access_token IS NOT DISTINCT FROM %(old_access_token)s
  AND refresh_token IS NOT DISTINCT FROM %(old_refresh_token)s
RETURNING id;
