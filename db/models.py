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


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some records of a listing; `next` asks for those after them, None where there are none."""

    items: list[T]
    next: str | None
