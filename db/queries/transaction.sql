-- Transaction control. Savepoints with the same name nest: the name refers to the latest one.

-- name: begin_transaction :write
-- Begin a transaction.
-- takes: nothing
-- gives: nothing
BEGIN;

-- name: commit_transaction :write
-- Commit the transaction.
-- takes: nothing
-- gives: nothing
COMMIT;

-- name: roll_back_transaction :write
-- Roll back the transaction.
-- takes: nothing
-- gives: nothing
ROLLBACK;

-- name: make_savepoint :write
-- Create a savepoint.
-- takes: nothing
-- gives: nothing
SAVEPOINT groundwork;

-- name: roll_back_savepoint :write
-- Roll back to the savepoint, which stays.
-- takes: nothing
-- gives: nothing
ROLLBACK TO SAVEPOINT groundwork;

-- name: release_savepoint :write
-- Release the savepoint.
-- takes: nothing
-- gives: nothing
RELEASE SAVEPOINT groundwork;
