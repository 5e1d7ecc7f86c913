"""The records that the data access returns and takes.

All are frozen msgspec Structs. `row_version` increases with every change of a row; `update` uses it to detect
concurrent changes. Timestamps have a time zone. No record contains a token: tokens are read separately and never
cached.

In NewUser, NewOrganization and NewRepository, a field that is left out has the value UNSET: an insert stores None, 0 or
{}, and an upsert keeps what is stored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

T = TypeVar("T")


class User(msgspec.Struct, frozen=True):
    """A user. To change one, pass the result of `msgspec.structs.replace` to `update`."""

    id: int
    github_id: int
    username: str
    email: str | None
    preferences: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    row_version: int


# Increment it with every change of User, so that entries cached by another release are not decoded.
USER_SCHEMA = 1


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """The values to insert or upsert a user with. An upsert keeps the fields that are left out."""

    github_id: int
    username: str
    email: str | UnsetType | None = UNSET
    preferences: dict[str, Any] | UnsetType = UNSET


class Organization(msgspec.Struct, frozen=True):
    """An organization. `member_count` is 0 or more."""

    id: int
    github_id: int
    name: str
    description: str | None
    member_count: int
    created_at: datetime
    updated_at: datetime
    row_version: int


ORGANIZATION_SCHEMA = 1


class NewOrganization(msgspec.Struct, frozen=True, kw_only=True):
    """The values to insert or upsert an organization with. An upsert keeps the fields that are left out."""

    github_id: int
    name: str
    description: str | UnsetType | None = UNSET
    member_count: int | UnsetType = UNSET


class Repository(msgspec.Struct, frozen=True):
    """A repository. `name` is the full name, owner/name; `org_id` is the `id` of its Organization, if any."""

    id: int
    github_id: int
    org_id: int | None
    name: str
    description: str | None
    language: str | None
    stars: int
    forks: int
    issues: int
    created_at: datetime
    updated_at: datetime
    row_version: int


REPOSITORY_SCHEMA = 1


class NewRepository(msgspec.Struct, frozen=True, kw_only=True):
    """The values to insert or upsert a repository with. An upsert keeps the fields that are left out."""

    github_id: int
    name: str
    org_id: int | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    stars: int | UnsetType = UNSET
    forks: int | UnsetType = UNSET
    issues: int | UnsetType = UNSET


class Activity(msgspec.Struct, frozen=True):
    """Something a user did, optionally in a repository. The key is (id, timestamp).

    `type` is the event's type, such as PushEvent; `data` is a JSON object.
    """

    id: int
    github_event_id: int | None
    user_id: int
    repo_id: int | None
    type: str
    timestamp: datetime
    data: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    row_version: int


ACTIVITY_SCHEMA = 1


class NewActivity(msgspec.Struct, frozen=True, kw_only=True):
    """The values to insert or upsert an activity with. An upsert replaces all fields.

    `timestamp` must have a time zone.
    """

    user_id: int
    type: str
    timestamp: datetime
    github_event_id: int | None = None
    repo_id: int | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A page of a listing. Pass `next` as `after` to get the following page; it is None on the last page."""

    items: list[T]
    next: str | None


class Tokens(msgspec.Struct, frozen=True):
    """A user's decrypted tokens. `repr` shows neither."""

    access: str | None
    refresh: str | None

    def __repr__(self) -> str:
        return "Tokens(...)"
