-- The outbox of cache invalidations. Triggers write it; the access service processes it.

-- name: read_outbox :read
-- Read the oldest entries with their age in seconds and the record's current row version, or null if the record is
-- deleted or has none.
-- A cached entry of exactly that version stays, because the writer has updated it already.
-- takes: batch_size int
-- gives: OutboxEntry
-- never null: age
SELECT
    o.id,
    o.entity,
    o.entity_id,
    coalesce(u.row_version, g.row_version, r.row_version) AS row_version,
    extract(epoch FROM clock_timestamp() - o.created_at)::float8 AS age
FROM cache_outbox AS o
LEFT JOIN users AS u ON o.entity = 'user' AND u.id = o.entity_id
LEFT JOIN organizations AS g ON o.entity = 'organization' AND g.id = o.entity_id
LEFT JOIN repositories AS r ON o.entity = 'repository' AND r.id = o.entity_id
ORDER BY o.id
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
