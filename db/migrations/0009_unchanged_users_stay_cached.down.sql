CREATE OR REPLACE TRIGGER users_outbox_update AFTER UPDATE ON users
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('user');

DROP FUNCTION write_changed_record_outbox();
