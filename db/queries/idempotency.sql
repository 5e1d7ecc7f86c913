-- Keys of writes that are done once, however often they are sent.

-- name: claim_key :write
-- The key where it is new; nothing where a write was done under it. Waits for one that is under way.
-- takes: key str, purpose str
-- gives: str
INSERT INTO idempotency_keys (key, purpose) VALUES (%(key)s, %(purpose)s) ON CONFLICT DO NOTHING RETURNING key;

-- name: find_key :read
-- What was done under a key.
-- takes: key str
-- gives: DoneWrite
SELECT purpose, record_id FROM idempotency_keys WHERE key = %(key)s;

-- name: settle_key :write
-- The record that was written under a key.
-- takes: key str, record_id int
-- gives: str
UPDATE idempotency_keys SET record_id = %(record_id)s WHERE key = %(key)s RETURNING key;

-- name: forget_keys :write
-- Keys older than a day, forgotten.
-- takes: nothing
-- gives: str
DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day' RETURNING key;
