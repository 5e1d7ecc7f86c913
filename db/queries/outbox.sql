-- The outbox of cache invalidations. Triggers write it; the access service processes it.

-- name: read_outbox :read
-- Read the oldest entries with their age in seconds.
-- takes: batch_size int
-- gives: OutboxEntry
-- never null: age
SELECT id, entity, entity_id, extract(epoch FROM clock_timestamp() - created_at)::float8 AS age
FROM cache_outbox
ORDER BY id
LIMIT %(batch_size)s;

-- name: delete_outbox :write
-- Delete entries whose keys have been invalidated. Idempotent: several drainers may process the same entries.
-- takes: ids list[int]
-- gives: int
DELETE FROM cache_outbox WHERE id = ANY(%(ids)s) RETURNING id;

-- name: measure_outbox :read
-- Measure the number of entries and the age of the oldest in seconds.
-- takes: nothing
-- gives: OutboxMeasure
-- never null: depth, age
SELECT count(*) AS depth, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS age
FROM cache_outbox;
