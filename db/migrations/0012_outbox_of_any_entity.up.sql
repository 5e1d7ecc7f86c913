-- The CHECK listed the entities, so that each new entity had to replace it. Two branches that each add an entity would
-- replace it by lists that lack the other's, and then every INSERT into one of the tables failed. Only triggers write
-- the outbox, and `make check` compares their arguments with db/entities.py.
-- No client relies on it, because only triggers insert.
-- squawk-ignore ban-drop-constraint
ALTER TABLE cache_outbox DROP CONSTRAINT cache_outbox_entity_check;

COMMENT ON COLUMN cache_outbox.entity IS 'What is stale: an entity or a feed of db/entities.py.';
