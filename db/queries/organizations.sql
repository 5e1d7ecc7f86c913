-- Organizations. The columns come in the order of db.models.Organization's fields.

-- name: find_organization :read
-- An organization by its id.
-- takes: id int
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE id = %(id)s;

-- name: find_organization_by_github_id :read
-- An organization by its GitHub number.
-- takes: github_id int
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE github_id = %(github_id)s;

-- name: find_organizations :read
-- Organizations by their ids, in no order.
-- takes: ids list[int]
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE id = ANY(%(ids)s);

-- name: list_organizations :read
-- Organizations after one of them, oldest id first.
-- takes: after_id int, limit int
-- gives: Organization
SELECT id, github_id, name, description, member_count, created_at, updated_at, row_version
FROM organizations
WHERE id > %(after_id)s
ORDER BY id
LIMIT %(limit)s;

-- name: add_organization :write
-- A new organization.
-- takes: github_id int, name str, description str | None, member_count int
-- gives: Organization
INSERT INTO organizations (github_id, name, description, member_count)
VALUES (%(github_id)s, %(name)s, %(description)s, %(member_count)s)
RETURNING id, github_id, name, description, member_count, created_at, updated_at, row_version;

-- name: upsert_organization :write
-- An organization by its GitHub number, made or brought up to date; what is not known is kept.
-- takes: github_id int, name str, description str | None, member_count int, sets_description bool, sets_member_count bool
-- gives: Organization
INSERT INTO organizations (github_id, name, description, member_count)
VALUES (%(github_id)s, %(name)s, %(description)s, %(member_count)s)
ON CONFLICT (github_id) DO UPDATE SET
    name = excluded.name,
    description = CASE WHEN %(sets_description)s THEN excluded.description ELSE organizations.description END,
    member_count = CASE WHEN %(sets_member_count)s THEN excluded.member_count ELSE organizations.member_count END
RETURNING id, github_id, name, description, member_count, created_at, updated_at, row_version;

-- name: update_organization :write
-- An organization as it is to be, unless it has changed since it was read.
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

-- name: delete_organization :write
-- An organization gone; its repositories stay, without one.
-- takes: id int
-- gives: int
DELETE FROM organizations WHERE id = %(id)s RETURNING id;
