-- Transaction control. Savepoints of one name nest: the last one made is meant.

-- name: begin_transaction :write
-- A transaction begins.
-- takes: nothing
-- gives: nothing
BEGIN;

-- name: commit_transaction :write
-- The transaction is kept.
-- takes: nothing
-- gives: nothing
COMMIT;

-- name: roll_back_transaction :write
-- The transaction is taken back.
-- takes: nothing
-- gives: nothing
ROLLBACK;

-- name: make_savepoint :write
-- A place to go back to.
-- takes: nothing
-- gives: nothing
SAVEPOINT groundwork;

-- name: roll_back_savepoint :write
-- Back to the place, which stays.
-- takes: nothing
-- gives: nothing
ROLLBACK TO SAVEPOINT groundwork;

-- name: release_savepoint :write
-- The place is no longer needed.
-- takes: nothing
-- gives: nothing
RELEASE SAVEPOINT groundwork;
