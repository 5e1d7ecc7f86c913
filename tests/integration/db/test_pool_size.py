"""A pool larger than its role's connection limit is refused at once, instead of failing under load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from cache.settings import CacheSettings
from db.errors import InvalidSetting
from db.models import NewUser
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise

LIMIT = 4
NO_CACHE: CacheSettings = cache_settings("redis://app:x@localhost:1/0", "none")


@pytest.fixture
def limited(database: Database) -> Iterator[Database]:
    """A database in which role app may have LIMIT connections."""
    database.psql(f"ALTER ROLE app_a CONNECTION LIMIT {LIMIT}")
    yield database
    database.psql("ALTER ROLE app_a CONNECTION LIMIT 60")


@promise("every call of a pool larger than its role's connection limit is refused, from the first on")
@pytest.mark.parametrize(
    "sizes", [{"pool_size": 5}, {"pool_size": 2, "instances": 3}, {"pool_size": 4, "beside_pool": 1}]
)
def test_every_call_of_a_pool_too_large_for_its_role_is_refused(
    flavour: str, limited: Database, sizes: dict[str, int]
) -> None:
    with data_access(flavour, database_settings(limited.url("app"), **sizes), NO_CACHE) as data:
        for _ in range(2):
            with pytest.raises(InvalidSetting, match=f"the role may have {LIMIT}; .*GROUNDWORK_POOL_SIZE"):
                data.users.add(NewUser(github_id=1, username="x"))
        wait_until(lambda: _is_whole(data), 60)
    assert limited.psql("SELECT count(*) FROM groundwork.users").strip() == "0"


@pytest.mark.parametrize("sizes", [{"pool_size": 4}, {"pool_size": 2, "instances": 2}])
def test_a_pool_that_fits_is_accepted(flavour: str, limited: Database, sizes: dict[str, int]) -> None:
    with data_access(flavour, database_settings(limited.url("app"), **sizes), NO_CACHE) as data:
        assert data.users.find(1) is None


def test_a_limit_lowered_later_does_not_fail_a_working_pool(flavour: str, database: Database) -> None:
    with data_access(flavour, database_settings(database.url("app"), pool_min_size=2), NO_CACHE) as data:
        data.users.find(1)
        database.psql(f"ALTER ROLE app_a CONNECTION LIMIT {LIMIT}")
        try:
            assert data.users.find(1) is None
        finally:
            database.psql("ALTER ROLE app_a CONNECTION LIMIT 60")


@promise(
    "every call of a pool larger than its role's connection limit is refused, from the first on", control=True
)
def test_the_drivers_pool_finds_out_under_load(limited: Database) -> None:
    """The negative control: the first callers are served, and the next ones time out."""
    with ConnectionPool(limited.url("app"), min_size=0, max_size=LIMIT + 1) as pool:
        held = [pool.getconn(timeout=60) for _ in range(LIMIT)]
        with pytest.raises(psycopg.OperationalError):
            pool.getconn(timeout=1)
        for connection in held:
            pool.putconn(connection)


def _is_whole(data: Any) -> bool:
    """Return whether all connections are in the pool."""
    statistics = data.pool.statistics()
    return bool(statistics["pool_size"] == statistics["pool_available"])
