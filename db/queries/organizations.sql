-- Organizations. The columns are in the order of db.models.Organization's fields.

-- name: find_organization :read
-- Find an organization by its id.
-- takes: id int
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE id = %(id)s;

-- name: find_organization_by_github_id :read
-- Find an organization by its GitHub id.
-- takes: github_id int
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE github_id = %(github_id)s;

-- name: find_organizations :read
-- Find organizations by their ids, in no order.
-- takes: ids list[int]
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE id = ANY(%(ids)s);

-- name: lock_organization :write
-- Find an organization by its id, and keep others from changing, deleting or locking it until the transaction ends.
-- takes: id int
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE id = %(id)s
FOR NO KEY UPDATE;

-- name: list_organizations :read
-- List organizations after an id, ordered by id.
-- takes: after_id int, limit int
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: count_organizations :read
-- Count all organizations.
-- takes: nothing
-- gives: int
-- never null: count
SELECT count(*) FROM organizations;

-- name: find_organization_versions :read
-- Find the row versions of organizations by their ids, in no order.
-- takes: ids list[int]
-- gives: RowVersion
SELECT id, row_version FROM organizations WHERE id = ANY(%(ids)s);

-- name: add_organization :write
-- Insert an organization.
-- takes: github_id int, name str, description str | None, member_count int
-- gives: Organization
INSERT INTO organizations (github_id, name, description, member_count)
VALUES (%(github_id)s, %(name)s, %(description)s, %(member_count)s)
RETURNING id, github_id, name, description, member_count, created_at, updated_at, row_version;

-- name: upsert_organization :write
-- Insert an organization, or update the one with its GitHub id. Columns whose sets_... flag is false are kept.
-- takes: github_id int, name str, description str | None, member_count int, sets_description bool, sets_member_count bool
-- gives: Organization
INSERT INTO organizations (github_id, name, description, member_count)
VALUES (%(github_id)s, %(name)s, %(description)s, %(member_count)s)
ON CONFLICT (github_id) DO UPDATE SET
    name = excluded.name,
    description = CASE WHEN %(sets_description)s THEN excluded.description ELSE organizations.description END,
    member_count = CASE WHEN %(sets_member_count)s THEN excluded.member_count ELSE organizations.member_count END
RETURNING id, github_id, name, description, member_count, created_at, updated_at, row_version;

-- name: upsert_organizations :write
-- Insert organizations, or update those with their GitHub ids. Columns whose sets_... flag is false are kept. The order is that
-- of the GitHub ids, so that two callers take their locks in the same order.
-- takes: records dict, sets_description bool, sets_member_count bool
-- gives: Organization
INSERT INTO organizations (github_id, name, description, member_count)
SELECT new.github_id, new.name, new.description, new.member_count
FROM jsonb_to_recordset(%(records)s) AS new (github_id bigint, name text, description text, member_count integer)
ORDER BY new.github_id
ON CONFLICT (github_id) DO UPDATE SET
    name = excluded.name,
    description = CASE WHEN %(sets_description)s THEN excluded.description ELSE organizations.description END,
    member_count = CASE WHEN %(sets_member_count)s THEN excluded.member_count ELSE organizations.member_count END
RETURNING id, github_id, name, description, member_count, created_at, updated_at, row_version;

-- name: update_organization :write
-- Update an organization unless it was changed since it was read.
-- takes: id int, row_version int, github_id int, name str, description str | None, member_count int
-- gives: Organization
UPDATE organizations
SET
    github_id = %(github_id)s,
    name = %(name)s,
    description = %(description)s,
    member_count = %(member_count)s
WHERE id = %(id)s AND row_version = %(row_version)s
RETURNING id, github_id, name, description, member_count, created_at, updated_at, row_version;

-- name: patch_organization :write
-- Change the columns of an organization that `changes` names. If a row version is given, only at that version.
-- takes: id int, row_version int | None, changes dict
-- gives: Organization
UPDATE organizations AS stored
SET (github_id, name, description, member_count) = (
    SELECT new.github_id, new.name, new.description, new.member_count
    FROM jsonb_populate_record(stored, %(changes)s) AS new
)
WHERE stored.id = %(id)s AND stored.row_version = coalesce(%(row_version)s, stored.row_version)
RETURNING
    stored.id, stored.github_id, stored.name, stored.description, stored.member_count,
    stored.created_at, stored.updated_at, stored.row_version;

-- name: delete_organization :write
-- Delete an organization. Its repositories stay, without an organization.
-- takes: id int
-- gives: int
DELETE FROM organizations WHERE id = %(id)s RETURNING id;

-- name: delete_organizations :write
-- Delete organizations by their ids. Their repositories stay, without an organization.
-- takes: ids list[int]
-- gives: int
DELETE FROM organizations WHERE id = ANY(%(ids)s) RETURNING id;
