# Generated from db/_async/organizations.py by scripts/generate_sync.py; edit that, not this.
"""Read and write organizations."""

from __future__ import annotations

from msgspec import UNSET

from cache._sync.client import Client
from cache.timing import Tier
from db._sync.keyed_records import GitHubRepository
from db._sync.pool import Pool
from db.models import ORGANIZATION_SCHEMA, NewOrganization, Organization
from db.record_kind import RecordKind
from db.validation import bigint, optional, optional_count, text


def _parameters(organization: NewOrganization | Organization) -> dict[str, object]:
    return {
        "github_id": bigint("github_id", organization.github_id, least=1),
        "name": text("name", organization.name, empty=False),
        "description": optional(text, "description", organization.description),
        "member_count": optional_count("member_count", organization.member_count),
    }


def _known(organization: NewOrganization) -> dict[str, bool]:
    return {
        "sets_description": organization.description is not UNSET,
        "sets_member_count": organization.member_count is not UNSET,
    }


KIND = RecordKind(
    "organization",
    "organizations",
    Organization,
    ORGANIZATION_SCHEMA,
    Tier.MEDIUM,
    _parameters,
    "github_id",
    _known,
)


class OrganizationRepository(GitHubRepository[Organization, NewOrganization]):
    """Organizations. Reads by id use the cache.

    Deleting an organization keeps its repositories and sets their `org_id` to None.
    """

    def __init__(self, pool: Pool, client: Client, namespace: str) -> None:
        super().__init__(KIND, pool, client, namespace)
