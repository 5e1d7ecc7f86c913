"""Data access: repositories over Postgres, with a Redis cache in front.

The public names are `AsyncDataAccess` and `DataAccess` in this module, the error classes in `db.errors`, the
records in `db.models`, and the settings in `db.settings`. Other modules of this package are internal.

`DataAccess` is generated from `AsyncDataAccess` and has the same methods without `await`. Both names are imported
on first use, so that importing `db.migrator` does not load the cache and the pool.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db._async.access import AsyncDataAccess
    from db._sync.access import DataAccess

_HOMES = {"AsyncDataAccess": "db._async.access", "DataAccess": "db._sync.access"}

__all__ = ["AsyncDataAccess", "DataAccess"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'db' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
