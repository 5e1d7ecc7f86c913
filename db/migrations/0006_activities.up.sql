-- Partitioned by month: a feed reads the newest few partitions, and retention drops a whole one. There is
-- no DEFAULT partition, for one with rows in it would block making the month that they belong to.

CREATE TABLE activities (
    id bigint GENERATED ALWAYS AS IDENTITY,
    github_event_id bigint CHECK (github_event_id > 0),
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    repo_id bigint REFERENCES repositories (id) ON DELETE SET NULL,
    type text NOT NULL CHECK (type <> ''),
    timestamp timestamptz NOT NULL,
    data jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    row_version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (id, timestamp),
    UNIQUE (github_event_id, timestamp)
) PARTITION BY RANGE (timestamp);

COMMENT ON TABLE activities IS
    'What people did, newest first in every feed; one partition a month (UTC), made by make_activity_partitions.';
COMMENT ON COLUMN activities.id IS
    'Our own identity of the activity; with timestamp the key, for a partitioned table''s must hold it.';
COMMENT ON COLUMN activities.github_event_id IS
    'GitHub''s number of the event; null for what did not come as an event.';
COMMENT ON COLUMN activities.user_id IS 'Who did it; their activities go with them.';
COMMENT ON COLUMN activities.repo_id IS 'Where; null for none, and once the repository is deleted.';
COMMENT ON COLUMN activities.type IS 'GitHub''s event type, such as PushEvent.';
COMMENT ON COLUMN activities.timestamp IS 'When it happened; decides the partition.';
COMMENT ON COLUMN activities.data IS 'A JSON object of details, by type.';
COMMENT ON COLUMN activities.created_at IS 'When the row was made.';
COMMENT ON COLUMN activities.updated_at IS 'When the row was last updated; kept by a trigger.';
COMMENT ON COLUMN activities.row_version IS 'Grows by one with each update; kept by a trigger.';

CREATE INDEX activities_user_feed_idx ON activities (user_id, timestamp DESC, id DESC);
CREATE INDEX activities_repo_feed_idx ON activities (repo_id, timestamp DESC, id DESC);
CREATE INDEX activities_type_idx ON activities (type, timestamp DESC, id DESC);

CREATE TRIGGER activities_row_version BEFORE UPDATE ON activities
    FOR EACH ROW EXECUTE FUNCTION keep_row_version();

-- What is cached of activities are feeds, so the outbox names each feed once, however many rows a COPY brings.
CREATE FUNCTION write_feed_outbox() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = groundwork, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO cache_outbox (entity, entity_id)
        SELECT 'user_feed', user_id FROM new_rows GROUP BY user_id
        UNION ALL
        SELECT 'repository_feed', repo_id FROM new_rows WHERE repo_id IS NOT NULL GROUP BY repo_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO cache_outbox (entity, entity_id)
        SELECT 'user_feed', user_id FROM old_rows GROUP BY user_id
        UNION ALL
        SELECT 'repository_feed', repo_id FROM old_rows WHERE repo_id IS NOT NULL GROUP BY repo_id;
    ELSE
        -- An activity that moves is stale in the feed it left and in the one it came to.
        INSERT INTO cache_outbox (entity, entity_id)
        SELECT 'user_feed', user_id FROM old_rows
        UNION
        SELECT 'user_feed', user_id FROM new_rows
        UNION
        SELECT 'repository_feed', repo_id FROM old_rows WHERE repo_id IS NOT NULL
        UNION
        SELECT 'repository_feed', repo_id FROM new_rows WHERE repo_id IS NOT NULL;
    END IF;
    IF FOUND THEN
        PERFORM pg_notify('cache_outbox', '');
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION write_feed_outbox() IS
    'AFTER INSERT, UPDATE or DELETE on activities, each statement: one outbox row a feed.';

REVOKE ALL ON FUNCTION write_feed_outbox() FROM PUBLIC;

CREATE TRIGGER activities_outbox_insert AFTER INSERT ON activities
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_feed_outbox();
CREATE TRIGGER activities_outbox_update AFTER UPDATE ON activities
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_feed_outbox();
CREATE TRIGGER activities_outbox_delete AFTER DELETE ON activities
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_feed_outbox();

-- SECURITY DEFINER: app keeps partitions ahead of time without being able to create anything else.
CREATE FUNCTION make_activity_partitions(since timestamptz, until timestamptz) RETURNS SETOF text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = groundwork, pg_temp
SET timezone = 'UTC'
-- The foreign keys lock users and repositories against writers for a moment; behind a long write it gives way.
SET lock_timeout = '2s'
AS $$
DECLARE
    first_month constant timestamptz := date_trunc('month', since);
    last_month constant timestamptz := date_trunc('month', until);
    month_start timestamptz;
    partition text;
BEGIN
    -- Each partition costs every plan and every DDL; the bounds keep app from making them without end.
    IF first_month IS NULL OR last_month IS NULL OR first_month > last_month
       OR first_month < '1970-01-01' OR last_month > now() + interval '10 years' THEN
        RAISE EXCEPTION 'no partitions from % to %: give a range from 1970 to ten years ahead', since, until
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR month_start IN SELECT generate_series(first_month, last_month, interval '1 month') LOOP
        partition := 'activities_' || to_char(month_start, 'YYYY_MM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        -- Conflicts with itself and with no reader or writer: of two callers one waits, and then finds it made.
        LOCK TABLE activities IN SHARE UPDATE EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        -- ATTACH instead of PARTITION OF, which would take an ACCESS EXCLUSIVE lock on activities.
        EXECUTE format('CREATE TABLE %I (LIKE activities INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
        EXECUTE format(
            'ALTER TABLE activities ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition, month_start, month_start + interval '1 month'
        );
        RETURN NEXT partition;
    END LOOP;
END
$$;

COMMENT ON FUNCTION make_activity_partitions(timestamptz, timestamptz) IS
    'Makes the missing monthly partitions of activities from the month of the first to that of the second '
    'argument, and returns their names; none when all are there.';

REVOKE ALL ON FUNCTION make_activity_partitions(timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_activity_partitions(timestamptz, timestamptz) TO app;

GRANT SELECT, INSERT, UPDATE, DELETE ON activities TO app;
GRANT SELECT ON activities TO readonly;

-- Enough to write at once; the access service keeps the months ahead, an import makes those it needs.
SELECT make_activity_partitions(now() - interval '1 month', now() + interval '3 months');
