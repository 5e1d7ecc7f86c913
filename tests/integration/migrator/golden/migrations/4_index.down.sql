-- no-transaction
DROP INDEX CONCURRENTLY reversible_simple_idx;
