-- Transaction control. The name of a savepoint is the one below and its depth, such as groundwork_1.

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
-- Create a savepoint. The one of the same depth before it is released in the same message.
-- takes: nothing
-- gives: nothing
SAVEPOINT groundwork;

-- name: roll_back_savepoint :write
-- Roll back to the savepoint, which stays.
-- takes: nothing
-- gives: nothing
ROLLBACK TO SAVEPOINT groundwork;

-- name: release_savepoint :write
-- Release the savepoint of a block that has ended.
-- takes: nothing
-- gives: nothing
RELEASE SAVEPOINT groundwork;
