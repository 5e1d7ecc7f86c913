# Generated from db/_async/users.py by scripts/generate_sync.py; edit that, not this.
"""Read and write users: by id and by name."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from msgspec import UNSET, UnsetType
from psycopg.types.json import Jsonb

from cache._sync.client import Client
from cache.timing import Tier
from db._sync.keyed_records import GitHubRepository
from db._sync.pool import Pool
from db._sync.tokens import TokenVault
from db.models import USER_SCHEMA, NewUser, Page, Tokens, User
from db.paging import Listing
from db.record_kind import RecordKind, checked_changes
from db.token_keys import TokenKeys
from db.validation import bigint, indexed_text, json_object, text


def _parameters(user: NewUser | User) -> dict[str, object]:
    email = None if user.email is UNSET or user.email is None else text("email", user.email)
    preferences = {} if user.preferences is UNSET else json_object("preferences", user.preferences)
    return {
        "github_id": bigint("github_id", user.github_id, least=1),
        "username": indexed_text("username", user.username, empty=False),
        "email": email,
        "preferences": Jsonb(preferences),
    }


def _known(user: NewUser) -> dict[str, bool]:
    return {"sets_email": user.email is not UNSET, "sets_preferences": user.preferences is not UNSET}


KIND = RecordKind("user", "users", User, USER_SCHEMA, Tier.LONG, _parameters, "github_id", _known)


class UserRepository(GitHubRepository[User, NewUser]):
    """Users and their tokens. Reads by id use the cache; tokens are never cached.

    Deleting a user deletes its activities.
    """

    def __init__(self, pool: Pool, client: Client, namespace: str, keys: TokenKeys) -> None:
        super().__init__(KIND, pool, client, namespace)
        self._vault = TokenVault(pool, keys)

    def patch(
        self,
        user_id: int,
        *,
        github_id: int | UnsetType = UNSET,
        username: str | UnsetType = UNSET,
        email: str | UnsetType | None = UNSET,
        preferences: dict[str, Any] | UnsetType = UNSET,
        row_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> User:
        """Change the given fields without reading the user first, and return it. The others keep their value.

        With `row_version`, raises VersionConflict if the row has another one. Raises NotFound, and InvalidInput if no
        field is given. `idempotency_key` works as in `add`.
        """
        changes = checked_changes(
            NewUser(github_id=1, username="any"),
            _parameters,
            github_id=github_id,
            username=username,
            email=email,
            preferences=preferences,
        )
        return self._patch(user_id, changes, row_version, idempotency_key)

    def tokens(self, user_id: int) -> Tokens:
        """Return a user's decrypted tokens.

        Raises NotFound, InvalidSetting if no token keys are set, TokenUnreadable if a token cannot be decrypted, and
        UnknownTokenKey if the key it was encrypted with is missing.
        """
        return self._vault.get(user_id)

    def set_tokens(
        self,
        user_id: int,
        *,
        access_token: str | UnsetType | None = UNSET,
        refresh_token: str | UnsetType | None = UNSET,
    ) -> None:
        """Encrypt and write a user's tokens. A token left out is kept; None removes it.

        Raises NotFound, and InvalidSetting if no token keys are set. Does not change the user's row_version.
        """
        self._vault.set(user_id, access_token=access_token, refresh_token=refresh_token)

    def list_by_username(self, username: str, *, limit: int = 50, after: str | None = None) -> Page[User]:
        """Return a page of the users with this name, ordered by id. ASCII letters match in either case, as on GitHub.

        Several users may have the same name, because GitHub users can rename themselves.
        """
        # Of str, lower() would change other letters too. Bytes keep them.
        name = text("username", username).encode().lower().decode()
        listing = Listing(f"users by username {name}", length=1)
        (after_id,) = listing.start(after, (0,))
        parameters = {"username": name, "after_id": after_id}
        return self._page(listing, "list_users_by_username", parameters, limit, attrgetter("id"))
