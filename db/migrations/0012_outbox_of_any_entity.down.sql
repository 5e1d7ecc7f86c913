COMMENT ON COLUMN cache_outbox.entity IS
    'What is stale: a record (user, organization, repository) or a feed (user_feed, repository_feed).';

-- What this release does not know is cached by no one any more.
DELETE FROM cache_outbox
WHERE entity NOT IN ('user', 'organization', 'repository', 'user_feed', 'repository_feed');

ALTER TABLE cache_outbox ADD CONSTRAINT cache_outbox_entity_check
    CHECK (entity IN ('user', 'organization', 'repository', 'user_feed', 'repository_feed'));
