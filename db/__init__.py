"""The Postgres side of the data-access module: these are its public names; the modules below are not.

`AsyncDataAccess` is the source, `DataAccess` the same without async. Names are imported when they are
used, so that reading a migration does not pay for the driver.
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
