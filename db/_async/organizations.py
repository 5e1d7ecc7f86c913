"""Read and write organizations."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from cache._async.client import AsyncClient
from cache.timing import Tier
from db._async.keyed_records import AsyncGitHubRepository
from db._async.pool import AsyncPool
from db.models import ORGANIZATION_SCHEMA, NewOrganization, Organization
from db.record_kind import RecordKind, checked_changes
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

    async def patch(
        self,
        organization_id: int,
        *,
        github_id: int | UnsetType = UNSET,
        name: str | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        member_count: int | UnsetType = UNSET,
        row_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Organization:
        """Change the given fields without reading the organization first, and return it. The others keep their value.

        With `row_version`, raises VersionConflict if the row has another one. Raises NotFound, and InvalidInput if no
        field is given. `idempotency_key` works as in `add`.
        """
        changes = checked_changes(
            NewOrganization(github_id=1, name="any"),
            _parameters,
            github_id=github_id,
            name=name,
            description=description,
            member_count=member_count,
        )
        return await self._patch(organization_id, changes, row_version, idempotency_key)
