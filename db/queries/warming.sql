-- The records that are likely to be read first: those of the latest activities, and those with most stars.

-- name: list_hot_users :read
-- List the users with most of the latest activities, the busiest first.
-- takes: sample int, limit int
-- gives: int
SELECT user_id
FROM (SELECT user_id FROM activities ORDER BY id DESC LIMIT %(sample)s) AS recent
GROUP BY user_id
ORDER BY count(*) DESC, user_id
LIMIT %(limit)s;

-- name: list_hot_repositories :read
-- List the repositories with most of the latest activities, then those with most stars.
-- takes: sample int, limit int
-- gives: int
-- never null: repo_id
SELECT repo_id
FROM (
  (SELECT repo_id, count(*) AS activities, 0 AS stars
   FROM (SELECT repo_id FROM activities ORDER BY id DESC LIMIT %(sample)s) AS recent
   WHERE repo_id IS NOT NULL
   GROUP BY repo_id)
  UNION ALL
  (SELECT id, 0, stars FROM repositories ORDER BY repositories.stars DESC, id DESC LIMIT %(limit)s)
) AS hot
GROUP BY repo_id
ORDER BY max(activities) DESC, max(stars) DESC, repo_id
LIMIT %(limit)s;
