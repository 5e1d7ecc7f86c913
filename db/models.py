"""The records of the data-access module: frozen values, as Postgres holds them and Redis caches them.

No record carries a token: those are read by themselves, past the cache.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

T = TypeVar("T")


class User(msgspec.Struct, frozen=True):
    """A user. Change one with `msgspec.structs.replace`, and hand it to `update`."""

    id: int
    github_id: int
    username: str
    email: str | None
    preferences: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    row_version: int


# Raised by one with every change of User: entries of another number are never decoded.
USER_SCHEMA = 1


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a user who may not be there yet. What is left out is empty, and kept by an upsert."""

    github_id: int
    username: str
    email: str | UnsetType | None = UNSET
    preferences: dict[str, Any] | UnsetType = UNSET


class Organization(msgspec.Struct, frozen=True):
    """An organization."""

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
    """What is known of an organization that may not be there yet. What is left out is kept by an upsert."""

    github_id: int
    name: str
    description: str | UnsetType | None = UNSET
    member_count: int | UnsetType = UNSET


class Repository(msgspec.Struct, frozen=True):
    """A repository; `name` is the full one, owner/name, `org_id` our own id of its organization."""

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
    """What is known of a repository that may not be there yet. What is left out is kept by an upsert."""

    github_id: int
    name: str
    org_id: int | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    stars: int | UnsetType = UNSET
    forks: int | UnsetType = UNSET
    issues: int | UnsetType = UNSET


class Activity(msgspec.Struct, frozen=True):
    """What a user did, and where and when. Its key is (id, timestamp): the table is partitioned by month."""

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
    """An activity to be stored; `timestamp` is aware of its time zone."""

    user_id: int
    type: str
    timestamp: datetime
    github_event_id: int | None = None
    repo_id: int | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some records of a listing; `next` asks for those after them, None where there are none."""

    items: list[T]
    next: str | None


class Tokens(msgspec.Struct, frozen=True):
    """A user's tokens in clear; printing one shows neither."""

    access: str | None
    refresh: str | None

    def __repr__(self) -> str:
        return "Tokens(...)"
