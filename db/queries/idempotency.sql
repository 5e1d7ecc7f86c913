-- Idempotency keys of writes.

-- name: claim_key :write
-- Insert and return the key if it is new, otherwise return nothing. Waits for a concurrent write with the same key.
-- takes: key str, purpose str
-- gives: str
INSERT INTO idempotency_keys (key, purpose) VALUES (%(key)s, %(purpose)s) ON CONFLICT DO NOTHING RETURNING key;

-- name: find_key :read
-- Find the write that was done under a key. FOR UPDATE writes to the log, so that COMMIT waits until a replica has it, and
-- therefore the earlier write.
-- takes: key str
-- gives: DoneWrite
SELECT purpose, record_id FROM idempotency_keys WHERE key = %(key)s FOR UPDATE;

-- name: settle_key :write
-- Record the id of the record that was written under a key.
-- takes: key str, record_id int
-- gives: str
UPDATE idempotency_keys SET record_id = %(record_id)s WHERE key = %(key)s RETURNING key;

-- name: forget_keys :write
-- Delete keys older than a day, the oldest first, up to a number of them and from a time on. Skips keys that another
-- transaction holds.
-- takes: since datetime, batch_size int
-- gives: ForgottenKeys
-- never null: deleted
WITH forgotten AS (
    DELETE FROM idempotency_keys
    WHERE key = ANY(ARRAY(
        SELECT key
        FROM idempotency_keys
        WHERE created_at >= %(since)s AND created_at < now() - interval '1 day'
        ORDER BY created_at
        LIMIT %(batch_size)s
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING created_at
)
SELECT count(*) AS deleted, max(created_at) AS last FROM forgotten;
