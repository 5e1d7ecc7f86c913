-- Drops what nobody reads.
-- phase: contract
ALTER TABLE crlf DROP COLUMN a;
