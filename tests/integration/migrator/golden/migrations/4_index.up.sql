-- no-transaction
CREATE INDEX CONCURRENTLY reversible_simple_idx ON reversible (simple_id);
