# Generated from db/_async/users.py by scripts/generate_sync.py; edit that, not this.
"""Users: read through the cache, written to Postgres, and the cache told of every write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import attrgetter

from msgspec import UNSET
from psycopg.rows import args_row, scalar_row
from psycopg.types.json import Jsonb

from cache._sync.client import Client
from cache._sync.read_through import ReadThrough
from cache.codec import Codec
from cache.keys import EntityKeys
from cache.ttl import Tier
from db._sync.pool import Pool
from db.deadline import Deadline
from db.errors import InvalidInput, NotFound, VersionConflict
from db.models import USER_SCHEMA, NewUser, Page, User
from db.named_query import queries
from db.paging import MAX_LIMIT, decode_cursor, encode_cursor
from db.validation import bigint, json_object, text

_QUERIES = queries("users")
_ROW = args_row(User)
_BY_ID = "users by id"


class UserRepository:
    """Users by id. Reads may come from Redis; a write returns the user as it stands in Postgres."""

    ENTITY = "user"

    def __init__(self, pool: Pool, client: Client, namespace: str) -> None:
        self._pool = pool
        self.cached = ReadThrough(
            client,
            EntityKeys(namespace, self.ENTITY, USER_SCHEMA),
            Codec(User, attrgetter("row_version")),
            Tier.LONG,
        )

    def get(self, user_id: int) -> User:
        """The user with this id. Raises NotFound."""
        user = self.find(user_id)
        if user is None:
            raise NotFound(self.ENTITY, f"id {user_id}")
        return user

    def find(self, user_id: int) -> User | None:
        """The user with this id, or None."""
        load = partial(self._load, deadline=self._pool.deadline())
        return self.cached.find(bigint("user_id", user_id), load)

    def get_many(self, user_ids: Sequence[int]) -> list[User | None]:
        """The users with these ids, in this order; None stands for one that is not there.

        One round trip to Redis for a few hundred, and one to Postgres for all that are not cached.
        """
        ids = [bigint("user_ids", user_id) for user_id in user_ids]
        found = self.cached.find_many(ids, partial(self._load_many, deadline=self._pool.deadline()))
        return [found.get(user_id) for user_id in ids]

    def list(self, *, limit: int = 50, after: str | None = None) -> Page[User]:
        """A page of users by id, past the cache. `after` is the `next` of the page before."""
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput("limit", f"{limit} is out of range; 1 to {MAX_LIMIT}")
        after_id = 0 if after is None else decode_cursor(_BY_ID, after, 1)[0]
        # One more than asked for tells whether there is a next page.
        parameters = {"after_id": after_id, "limit": limit + 1}
        users = self._pool.fetch_all(_QUERIES["list_users"], parameters, _ROW)
        has_next = len(users) > limit
        users = users[:limit]
        return Page(users, encode_cursor(_BY_ID, (users[-1].id,)) if has_next else None)

    def add(self, user: NewUser) -> User:
        """Make a user. Raises ConstraintViolated where its github_id is taken."""
        return self._write("add_user", _parameters(user))

    def upsert(self, user: NewUser) -> User:
        """Make the user with this github_id, or bring it up to date; fields left out are kept."""
        known = {
            "sets_email": user.email is not UNSET,
            "sets_preferences": user.preferences is not UNSET,
        }
        return self._write("upsert_user", _parameters(user) | known)

    def update(self, user: User) -> User:
        """Write a changed user. Raises VersionConflict where it has changed since it was read; NotFound."""
        parameters = _parameters(user) | {
            "id": bigint("id", user.id),
            "row_version": bigint("row_version", user.row_version),
        }
        updated = self._pool.fetch_one(_QUERIES["update_user"], parameters, _ROW)
        if updated is None:
            current = self._load(user.id)
            # What was read may have come from the cache; the next read has to see what stands.
            self.cached.drop([(user.id, None if current is None else current.row_version)])
            if current is None:
                raise NotFound(self.ENTITY, f"id {user.id}")
            raise VersionConflict(self.ENTITY, user.id, user.row_version)
        self.cached.replace(updated.id, updated)
        return updated

    def delete(self, user_id: int) -> None:
        """Delete the user with this id, and its activities. Raises NotFound."""
        parameters = {"id": bigint("user_id", user_id)}
        deleted = self._pool.fetch_one(_QUERIES["delete_user"], parameters, scalar_row)
        self.cached.drop([(user_id, None)])
        if deleted is None:
            raise NotFound(self.ENTITY, f"id {user_id}")

    def _write(self, query: str, parameters: dict[str, object]) -> User:
        user = self._pool.fetch_one(_QUERIES[query], parameters, _ROW)
        assert user is not None, f"{query} returns the row it wrote"
        self.cached.replace(user.id, user)
        return user

    def _load(self, user_id: int, deadline: Deadline | None = None) -> User | None:
        return self._pool.fetch_one(_QUERIES["find_user"], {"id": user_id}, _ROW, deadline)

    def _load_many(self, user_ids: Sequence[int], deadline: Deadline) -> dict[int, User]:
        users = self._pool.fetch_all(_QUERIES["find_users"], {"ids": [*user_ids]}, _ROW, deadline)
        return {user.id: user for user in users}


def _parameters(user: NewUser | User) -> dict[str, object]:
    """The parameters that users' writes share, checked."""
    email = None if user.email is UNSET or user.email is None else text("email", user.email)
    preferences = {} if user.preferences is UNSET else json_object("preferences", user.preferences)
    return {
        "github_id": bigint("github_id", user.github_id, least=1),
        "username": text("username", user.username, empty=False),
        "email": email,
        "preferences": Jsonb(preferences),
    }
