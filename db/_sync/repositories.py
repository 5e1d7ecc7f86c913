# Generated from db/_async/repositories.py by scripts/generate_sync.py; edit that, not this.
"""Read and write repositories: by id, by organization, by stars and by language."""

from __future__ import annotations

from operator import attrgetter

from msgspec import UNSET, UnsetType

from cache._sync.client import Client
from cache.timing import Tier
from db._sync.keyed_records import GitHubRepository
from db._sync.pool import Pool
from db.models import REPOSITORY_SCHEMA, NewRepository, Page, Repository
from db.paging import INTEGER, Listing
from db.record_kind import RecordKind, checked_changes
from db.validation import INT32_MAX, INT64_MAX, bigint, indexed_text, optional, optional_count, text

_OPTIONAL = ("org_id", "description", "language", "stars", "forks", "issues")
# The start of a listing by stars, which begins with the most.
_TOP = (INT32_MAX, INT64_MAX)
_STARS = attrgetter("stars", "id")


def _parameters(repository: NewRepository | Repository) -> dict[str, object]:
    org_id = repository.org_id
    return {
        "github_id": bigint("github_id", repository.github_id, least=1),
        "org_id": None if org_id is UNSET or org_id is None else bigint("org_id", org_id),
        "name": text("name", repository.name, empty=False),
        "description": optional(text, "description", repository.description),
        "language": optional(indexed_text, "language", repository.language),
        "stars": optional_count("stars", repository.stars),
        "forks": optional_count("forks", repository.forks),
        "issues": optional_count("issues", repository.issues),
    }


def _known(repository: NewRepository) -> dict[str, bool]:
    return {f"sets_{field}": getattr(repository, field) is not UNSET for field in _OPTIONAL}


KIND = RecordKind(
    "repository", "repositories", Repository, REPOSITORY_SCHEMA, Tier.MEDIUM, _parameters, "github_id", _known
)


class RepositoryRepository(GitHubRepository[Repository, NewRepository]):
    """Repositories. Reads by id use the cache; listings go to Postgres.

    Deleting a repository keeps its activities and sets their `repo_id` to None.
    """

    def __init__(self, pool: Pool, client: Client, namespace: str) -> None:
        super().__init__(KIND, pool, client, namespace)

    def patch(
        self,
        repository_id: int,
        *,
        github_id: int | UnsetType = UNSET,
        name: str | UnsetType = UNSET,
        org_id: int | UnsetType | None = UNSET,
        description: str | UnsetType | None = UNSET,
        language: str | UnsetType | None = UNSET,
        stars: int | UnsetType = UNSET,
        forks: int | UnsetType = UNSET,
        issues: int | UnsetType = UNSET,
        row_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Repository:
        """Change the given fields without reading the repository first, and return it. The others keep their value.

        With `row_version`, raises VersionConflict if the row has another one. Raises NotFound, and InvalidInput if no
        field is given. `idempotency_key` works as in `add`.
        """
        changes = checked_changes(
            NewRepository(github_id=1, name="any"),
            _parameters,
            github_id=github_id,
            name=name,
            org_id=org_id,
            description=description,
            language=language,
            stars=stars,
            forks=forks,
            issues=issues,
        )
        return self._patch(repository_id, changes, row_version, idempotency_key)

    def list_by_organization(
        self, org_id: int, *, limit: int = 50, after: str | None = None
    ) -> Page[Repository]:
        """Return a page of an organization's repositories, ordered by id."""
        org_id = bigint("org_id", org_id)
        listing = Listing(f"repositories of organization {org_id}", length=1)
        (after_id,) = listing.start(after, (0,))
        parameters = {"org_id": org_id, "after_id": after_id}
        return self._page(listing, "list_repositories_by_organization", parameters, limit, attrgetter("id"))

    def list_by_stars(self, *, limit: int = 50, after: str | None = None) -> Page[Repository]:
        """Return a page of all repositories, most stars first."""
        listing = Listing("repositories by stars", length=2, first=INTEGER)
        stars, after_id = listing.start(after, _TOP)
        parameters = {"after_stars": stars, "after_id": after_id}
        return self._page(listing, "list_repositories_by_stars", parameters, limit, _STARS)

    def list_by_language(
        self, language: str, *, limit: int = 50, after: str | None = None
    ) -> Page[Repository]:
        """Return a page of the repositories in a language, most stars first."""
        name = text("language", language)
        listing = Listing(f"repositories in {name} by stars", length=2, first=INTEGER)
        stars, after_id = listing.start(after, _TOP)
        parameters = {"language": name, "after_stars": stars, "after_id": after_id}
        return self._page(listing, "list_repositories_by_language", parameters, limit, _STARS)
