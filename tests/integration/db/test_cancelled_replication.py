"""A commit that the server answers although its wait for a replica was cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from db.errors import OutcomeUnknown
from db.models import NewUser
from tests.conftest import Database
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise

ADA = NewUser(github_id=7, username="ada")
_COUNT = "SELECT count(*) FROM groundwork.users"


@contextmanager
def without_a_replica(database: Database) -> Iterator[None]:
    """Let commits wait for a replica that does not exist, and cancel each wait."""
    is_over = threading.Event()

    def cancel() -> None:
        while not is_over.wait(0.05):
            database.psql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    thread = threading.Thread(target=cancel)
    database.psql("ALTER SYSTEM SET synchronous_standby_names = 'none'")
    thread.start()
    try:
        database.psql("SELECT pg_reload_conf()")
        yield
    finally:
        database.psql("ALTER SYSTEM RESET synchronous_standby_names")
        database.psql("SELECT pg_reload_conf()")
        is_over.set()
        thread.join()


@pytest.fixture
def data(flavour: str, database: Database) -> Iterator[Any]:
    nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
    with data_access(flavour, database_settings(database.url("app")), nowhere) as data:
        data.users.count()
        yield data


@promise("a commit whose wait for a replica is cancelled has an unknown outcome")
def test_a_commit_that_no_replica_has_is_unknown(data: Any, database: Database) -> None:
    with (
        without_a_replica(database),
        pytest.raises(OutcomeUnknown, match="its wait for a replica was cancelled"),
    ):
        data.users.add(ADA)
    # The primary has it, and the connection is whole.
    assert data.users.find_by_github_id(7).username == "ada"
    assert data.users.add(NewUser(github_id=8, username="grace")).username == "grace"


@promise("a commit whose wait for a replica is cancelled has an unknown outcome")
def test_a_retry_under_the_same_key_waits_for_a_replica_too(data: Any, database: Database) -> None:
    with without_a_replica(database):
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="its wait for a replica was cancelled"):
                data.users.add(ADA, idempotency_key="a key of this test")
    assert data.users.add(ADA, idempotency_key="a key of this test").username == "ada"
    assert database.psql(_COUNT).strip() == "1"


@promise("a commit whose wait for a replica is cancelled has an unknown outcome", control=True)
def test_the_driver_alone_reports_success(database: Database) -> None:
    with psycopg.connect(database.url("app"), autocommit=True) as connection, without_a_replica(database):
        done = connection.execute("INSERT INTO users (github_id, username) VALUES (7, 'ada')")
        assert done.statusmessage == "INSERT 0 1"
