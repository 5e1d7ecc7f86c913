-- The outbox of cache invalidations: written by triggers, emptied by the access service.

-- name: read_outbox :read
-- The oldest entries, with the row version that stands now; null where the record is gone or has none.
-- What the cache holds may stay if it is as new as that: the write itself has updated it.
-- takes: batch_size int
-- gives: OutboxEntry
SELECT o.id, o.entity, o.entity_id, coalesce(u.row_version, g.row_version, r.row_version) AS row_version
FROM cache_outbox AS o
LEFT JOIN users AS u ON o.entity = 'user' AND u.id = o.entity_id
LEFT JOIN organizations AS g ON o.entity = 'organization' AND g.id = o.entity_id
LEFT JOIN repositories AS r ON o.entity = 'repository' AND r.id = o.entity_id
ORDER BY o.id
LIMIT %(batch_size)s;

-- name: delete_outbox :write
-- Entries whose keys have been invalidated. Several drainers may do the same ones: it is idempotent.
-- takes: ids list[int]
-- gives: int
DELETE FROM cache_outbox WHERE id = ANY(%(ids)s) RETURNING id;

-- name: measure_outbox :read
-- How many entries wait, and for how many seconds the oldest has.
-- takes: nothing
-- gives: OutboxMeasure
-- never null: depth, age
SELECT count(*) AS depth, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS age
FROM cache_outbox;
