-- no-transaction
-- GitHub compares logins without regard to case. Collation "C" changes the case of ASCII letters only, which logins
-- consist of, and gives the same result whatever the database's locale. The id at the end gives the order of pages.
-- Index users_username_idx stays, because the last release still uses it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS users_login_idx ON users (lower(username COLLATE "C"), id);
