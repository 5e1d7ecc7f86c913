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
-- List the tokens of users who have any, ordered by id, among the next `window` users after an id. The last of these
-- users is listed even without tokens. No index finds users with tokens, so an unbounded search could scan the table.
-- takes: after_id int, window int, limit int
-- gives: SealedTokens
-- never null: id
SELECT id, access_token, refresh_token
FROM (
  SELECT id, access_token, refresh_token, lead(id) OVER (ORDER BY id) IS NULL AS is_last
  FROM (
    SELECT id, access_token, refresh_token FROM users WHERE id > %(after_id)s ORDER BY id LIMIT %(window)s
  ) AS nearby
) AS marked
WHERE access_token IS NOT NULL OR refresh_token IS NOT NULL OR is_last
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
