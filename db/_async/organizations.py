"""Read and write organizations."""

from __future__ import annotations

from msgspec import UNSET

from cache._async.client import AsyncClient
from cache.timing import Tier
from db._async.keyed_records import AsyncGitHubRepository
from db._async.pool import AsyncPool
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


class AsyncOrganizationRepository(AsyncGitHubRepository[Organization, NewOrganization]):
    """Organizations. Reads by id use the cache.

    Deleting an organization keeps its repositories and sets their `org_id` to None.
    """

    def __init__(self, pool: AsyncPool, client: AsyncClient, namespace: str) -> None:
        super().__init__(KIND, pool, client, namespace)
