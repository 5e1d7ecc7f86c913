DROP FUNCTION make_activity_partitions(timestamptz, timestamptz);

DROP TABLE activities;

DROP FUNCTION write_feed_outbox();
