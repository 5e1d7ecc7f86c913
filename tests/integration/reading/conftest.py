"""A primary with a replica for these tests, and a data access that reads from both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from cache.url_source import UrlSource
from db import load_queries
from db.errors import InvalidSetting
from db.migrator import apply_pending, read_source
from infra.spec.roles import DATABASE
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.replica import Pair, replicated_postgres

IS_REPLICA = load_queries("""
-- name: is_replica :read
-- Return whether a replica answers.
-- takes: nothing
-- gives: bool
SELECT pg_is_in_recovery();
""")["is_replica"]


@pytest.fixture(scope="package")
def pair(docker_engine: None) -> Iterator[Pair]:
    with replicated_postgres() as pair:
        apply_pending(pair.primary.database_url("migrator"), read_source())
        pair.catch_up()
        yield pair


@pytest.fixture
def open_reader(flavour: str, pair: Pair) -> Iterator[Callable[..., Any]]:
    """Open a data access whose reads in `reading()` are answered by the replica. Arguments change its settings."""
    pair.primary.psql("TRUNCATE groundwork.users CASCADE", DATABASE)
    pair.catch_up()
    with ExitStack() as stack:

        def open_one(**changes: Any) -> Any:
            settings = {"read_url": read_url(pair), "pool_size": 3, "read_pool_size": 2} | changes
            data = stack.enter_context(
                data_access(
                    flavour,
                    database_settings(pair.url("app_a", DATABASE, servers="primary"), **settings),
                    cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0),
                )
            )
            wait_until(lambda: is_answered_by_replica(data), 60)
            return data

        yield open_one


@pytest.fixture
def data(open_reader: Callable[..., Any]) -> Any:
    return open_reader()


def read_url(pair: Pair) -> UrlSource:
    """The primary comes first, as it may in a stack."""
    return UrlSource(
        "DATABASE_READ_URL", InvalidSetting, pair.url("app_a", DATABASE, servers="primary,replica")
    )


def is_answered_by_replica(data: Any, **reading: Any) -> bool:
    with data.reading(**reading):
        answer = data.fetch_one(IS_REPLICA, bool)
    return bool(answer)
