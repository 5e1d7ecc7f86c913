-- A write of tokens alone leaves the user as the cache holds it, so it leaves no outbox row either: a rotation
-- of the keys goes through every user, and would have the access service look at each of them.

CREATE FUNCTION write_changed_record_outbox() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = groundwork, pg_temp
AS $$
BEGIN
    -- What is cached carries its row_version: the same one is the same record.
    INSERT INTO cache_outbox (entity, entity_id)
    SELECT TG_ARGV[0], changed.id
    FROM (SELECT id, row_version FROM new_rows EXCEPT SELECT id, row_version FROM old_rows) AS changed;
    IF FOUND THEN
        PERFORM pg_notify('cache_outbox', '');
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION write_changed_record_outbox() IS
    'AFTER UPDATE, each statement: one outbox row for each record whose row_version changed; '
    'the argument is its entity.';

REVOKE ALL ON FUNCTION write_changed_record_outbox() FROM PUBLIC;

CREATE OR REPLACE TRIGGER users_outbox_update AFTER UPDATE ON users
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_changed_record_outbox('user');
