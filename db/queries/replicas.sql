-- Positions in the write history: of the primary, and of a replica.

-- name: read_write_position :read
-- Read the primary's position, behind every commit that was answered. Fails on a replica.
-- takes: nothing
-- gives: Position
-- never null: timeline, lsn
SELECT
    ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::int AS timeline,
    (lsn - '0/0')::bigint AS lsn
FROM (
    -- Behind the last flush there may be WAL that nobody flushes soon, and that no replica gets until then.
    SELECT CASE current_setting('synchronous_commit')
        WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn()
    END AS lsn
) AS here;

-- name: read_replay_position :read
-- Read what a replica has replayed. The timeline is null on a primary.
-- takes: nothing
-- gives: ReplayPosition
SELECT
    CASE WHEN pg_is_in_recovery() THEN greatest(
        (SELECT timeline_id FROM pg_control_checkpoint()),
        (SELECT min_recovery_end_timeline FROM pg_control_recovery())
    ) END AS timeline,
    (pg_last_wal_replay_lsn() - '0/0')::bigint AS lsn;
