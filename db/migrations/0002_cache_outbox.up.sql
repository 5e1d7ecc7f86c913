-- What the cache must forget. The write's own transaction puts it here, so that a writer that dies after
-- its COMMIT, psql, and services in other languages all invalidate. The access service empties it.

CREATE TABLE cache_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity text NOT NULL
        CHECK (entity IN ('user', 'organization', 'repository', 'user_feed', 'repository_feed')),
    entity_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (
    -- A queue: rows live for a second or two, and the dead ones must not wait for a share of the table.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 10000
);

COMMENT ON TABLE cache_outbox IS
    'Cache entries that a committed write has made stale; written by triggers, read and deleted by app.';
COMMENT ON COLUMN cache_outbox.id IS
    'Order of writing, not of committing: a lower id may become visible later.';
COMMENT ON COLUMN cache_outbox.entity IS
    'What is stale: a record (user, organization, repository) or a feed (user_feed, repository_feed).';
COMMENT ON COLUMN cache_outbox.entity_id IS
    'The id of the record; for a feed, that of the user or the repository it belongs to.';
COMMENT ON COLUMN cache_outbox.created_at IS 'When the writing transaction began.';

-- SECURITY DEFINER: app has no INSERT here, so no statement of its own can put false rows in.
CREATE FUNCTION write_record_outbox() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = groundwork, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO cache_outbox (entity, entity_id) SELECT TG_ARGV[0], id FROM old_rows;
    ELSE
        -- An insert counts as well: it ends a cached absence.
        INSERT INTO cache_outbox (entity, entity_id) SELECT TG_ARGV[0], id FROM new_rows;
    END IF;
    IF FOUND THEN
        -- Equal notifications of one transaction are sent once; the payload stays empty for that.
        PERFORM pg_notify('cache_outbox', '');
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION write_record_outbox() IS
    'AFTER INSERT, UPDATE or DELETE, each statement: one outbox row a record; the argument is its entity.';

REVOKE ALL ON FUNCTION write_record_outbox() FROM PUBLIC;

GRANT SELECT, DELETE ON cache_outbox TO app;
