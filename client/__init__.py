"""Data access for an application: users, organizations, repositories and activities over Postgres and Redis.

    from groundwork_client import DataAccess

    with DataAccess.open() as data:
        user = data.users.get(1)

`AsyncDataAccess` has the same methods with `await`. `groundwork_client.errors` contains the exceptions that they raise,
and `groundwork_client.models` the records. `DatabaseSettings` and `CacheSettings` set more than the environment
variables do, such as the deadline of a call.
"""

from cache.errors import CacheSettingError
from cache.settings import CacheSettings
from db._async.access import AsyncDataAccess
from db._sync.access import DataAccess
from db.own_queries import load_queries
from db.settings import DatabaseSettings

__all__ = [
    "AsyncDataAccess",
    "CacheSettingError",
    "CacheSettings",
    "DataAccess",
    "DatabaseSettings",
    "load_queries",
]
