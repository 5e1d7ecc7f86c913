-- Keys that callers give their writes, so that one whose answer was lost can be sent again and is done once.

CREATE TABLE idempotency_keys (
    key text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 200),
    purpose text NOT NULL,
    record_id bigint,
    created_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE idempotency_keys IS 'Writes that were done under a key; forgotten after a day by the access service.';
COMMENT ON COLUMN idempotency_keys.key IS 'What the caller chose; the same for every attempt at one write.';
COMMENT ON COLUMN idempotency_keys.purpose IS 'What was done under it, such as "add user": a key is for one thing.';
COMMENT ON COLUMN idempotency_keys.record_id IS 'The record that was written; null for a deleted one.';
COMMENT ON COLUMN idempotency_keys.created_at IS 'When the writing transaction began.';

CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

GRANT SELECT, INSERT, DELETE ON idempotency_keys TO app;
GRANT UPDATE (record_id) ON idempotency_keys TO app;
