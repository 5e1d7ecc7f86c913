DROP FUNCTION write_record_outbox();

DROP TABLE cache_outbox;
