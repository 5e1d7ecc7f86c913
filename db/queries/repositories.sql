-- Repositories. The columns are in the order of db.models.Repository's fields.

-- name: find_repository :read
-- Find a repository by its id.
-- takes: id int
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE id = %(id)s;

-- name: find_repository_by_github_id :read
-- Find a repository by its GitHub id.
-- takes: github_id int
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE github_id = %(github_id)s;

-- name: find_repositories :read
-- Find repositories by their ids, in no order.
-- takes: ids list[int]
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE id = ANY(%(ids)s);

-- name: lock_repository :write
-- Find a repository by its id, and keep others from changing, deleting or locking it until the transaction ends.
-- takes: id int
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE id = %(id)s
FOR NO KEY UPDATE;

-- name: list_repositories :read
-- List repositories after an id, ordered by id.
-- takes: after_id int, limit int
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: list_repositories_by_organization :read
-- List an organization's repositories after an id, ordered by id.
-- takes: org_id int, after_id int, limit int
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE org_id = %(org_id)s AND id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: list_repositories_by_stars :read
-- List repositories after a position, most stars first.
-- takes: after_stars int, after_id int, limit int
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE (stars, id) < (%(after_stars)s, %(after_id)s)
ORDER BY stars DESC, id DESC
LIMIT %(limit)s;

-- name: list_repositories_by_language :read
-- List repositories of a language after a position, most stars first.
-- takes: language str, after_stars int, after_id int, limit int
-- gives: Repository
SELECT id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version
FROM repositories
WHERE language = %(language)s AND (stars, id) < (%(after_stars)s, %(after_id)s)
ORDER BY stars DESC, id DESC
LIMIT %(limit)s;

-- name: count_repositories :read
-- Count all repositories.
-- takes: nothing
-- gives: int
-- never null: count
SELECT count(*) FROM repositories;

-- name: find_repository_versions :read
-- Find the row versions of repositories by their ids, in no order.
-- takes: ids list[int]
-- gives: RowVersion
SELECT id, row_version FROM repositories WHERE id = ANY(%(ids)s);

-- name: add_repository :write
-- Insert a repository.
-- takes: github_id int, org_id int | None, name str, description str | None, language str | None, stars int, forks int, issues int
-- gives: Repository
INSERT INTO repositories (github_id, org_id, name, description, language, stars, forks, issues)
VALUES (%(github_id)s, %(org_id)s, %(name)s, %(description)s, %(language)s, %(stars)s, %(forks)s, %(issues)s)
RETURNING id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version;

-- name: upsert_repository :write
-- Insert a repository, or update the one with its GitHub id. Columns whose sets_... flag is false are kept.
-- takes: github_id int, org_id int | None, name str, description str | None, language str | None, stars int, forks int, issues int, sets_org_id bool, sets_description bool, sets_language bool, sets_stars bool, sets_forks bool, sets_issues bool
-- gives: Repository
INSERT INTO repositories (github_id, org_id, name, description, language, stars, forks, issues)
VALUES (%(github_id)s, %(org_id)s, %(name)s, %(description)s, %(language)s, %(stars)s, %(forks)s, %(issues)s)
ON CONFLICT (github_id) DO UPDATE SET
    name = excluded.name,
    org_id = CASE WHEN %(sets_org_id)s THEN excluded.org_id ELSE repositories.org_id END,
    description = CASE WHEN %(sets_description)s THEN excluded.description ELSE repositories.description END,
    language = CASE WHEN %(sets_language)s THEN excluded.language ELSE repositories.language END,
    stars = CASE WHEN %(sets_stars)s THEN excluded.stars ELSE repositories.stars END,
    forks = CASE WHEN %(sets_forks)s THEN excluded.forks ELSE repositories.forks END,
    issues = CASE WHEN %(sets_issues)s THEN excluded.issues ELSE repositories.issues END
RETURNING id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version;

-- name: upsert_repositories :write
-- Insert repositories, or update those with their GitHub ids. Columns whose sets_... flag is false are kept. The order is that
-- of the GitHub ids, so that two callers take their locks in the same order.
-- takes: records dict, sets_org_id bool, sets_description bool, sets_language bool, sets_stars bool, sets_forks bool, sets_issues bool
-- gives: Repository
INSERT INTO repositories (github_id, org_id, name, description, language, stars, forks, issues)
SELECT new.github_id, new.org_id, new.name, new.description, new.language, new.stars, new.forks, new.issues
FROM jsonb_to_recordset(%(records)s) AS new (
    github_id bigint, org_id bigint, name text, description text, language text, stars integer, forks integer, issues integer
)
ORDER BY new.github_id
ON CONFLICT (github_id) DO UPDATE SET
    name = excluded.name,
    org_id = CASE WHEN %(sets_org_id)s THEN excluded.org_id ELSE repositories.org_id END,
    description = CASE WHEN %(sets_description)s THEN excluded.description ELSE repositories.description END,
    language = CASE WHEN %(sets_language)s THEN excluded.language ELSE repositories.language END,
    stars = CASE WHEN %(sets_stars)s THEN excluded.stars ELSE repositories.stars END,
    forks = CASE WHEN %(sets_forks)s THEN excluded.forks ELSE repositories.forks END,
    issues = CASE WHEN %(sets_issues)s THEN excluded.issues ELSE repositories.issues END
RETURNING id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version;

-- name: update_repository :write
-- Update a repository unless it was changed since it was read.
-- takes: id int, row_version int, github_id int, org_id int | None, name str, description str | None, language str | None, stars int, forks int, issues int
-- gives: Repository
UPDATE repositories
SET
    github_id = %(github_id)s,
    org_id = %(org_id)s,
    name = %(name)s,
    description = %(description)s,
    language = %(language)s,
    stars = %(stars)s,
    forks = %(forks)s,
    issues = %(issues)s
WHERE id = %(id)s AND row_version = %(row_version)s
RETURNING id, github_id, org_id, name, description, language, stars, forks, issues, created_at, updated_at, row_version;

-- name: patch_repository :write
-- Change the columns of a repository that `changes` names. If a row version is given, only at that version.
-- takes: id int, row_version int | None, changes dict
-- gives: Repository
UPDATE repositories AS stored
SET (github_id, org_id, name, description, language, stars, forks, issues) = (
    SELECT new.github_id, new.org_id, new.name, new.description, new.language, new.stars, new.forks, new.issues
    FROM jsonb_populate_record(stored, %(changes)s) AS new
)
WHERE stored.id = %(id)s AND stored.row_version = coalesce(%(row_version)s, stored.row_version)
RETURNING
    stored.id, stored.github_id, stored.org_id, stored.name, stored.description, stored.language,
    stored.stars, stored.forks, stored.issues, stored.created_at, stored.updated_at, stored.row_version;

-- name: delete_repository :write
-- Delete a repository. Its activities stay, without a repository.
-- takes: id int
-- gives: int
DELETE FROM repositories WHERE id = %(id)s RETURNING id;

-- name: delete_repositories :write
-- Delete repositories by their ids. Their activities stay, without a repository.
-- takes: ids list[int]
-- gives: int
DELETE FROM repositories WHERE id = ANY(%(ids)s) RETURNING id;
