"""Data access: repositories over Postgres, with a Redis cache in front.

The public names are `AsyncDataAccess`, `DataAccess` and `load_queries` in this module, the error classes in
`db.errors`, the records in `db.models`, and the settings in `db.settings`. Other modules of this package are internal.

`DataAccess` is generated from `AsyncDataAccess` and has the same methods without `await`. The names are imported
on first use, so that importing `db.migrator` does not load the cache and the pool.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db._async.access import AsyncDataAccess
    from db._sync.access import DataAccess
    from db.own_queries import load_queries

_HOMES = {
    "AsyncDataAccess": "db._async.access",
    "DataAccess": "db._sync.access",
    "load_queries": "db.own_queries",
}

__all__ = ["AsyncDataAccess", "DataAccess", "load_queries"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'db' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
