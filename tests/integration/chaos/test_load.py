"""The load of `groundwork chaos` against real servers: it finds lost writes and stale reads, and leaves no rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from db import AsyncDataAccess
from infra.spec.checkout import Checkout
from ops.chaos.journal import Journal
from ops.chaos.load import DataAccessLoad
from ops.chaos.undo import delete_left_rows
from ops.errors import Exit, OpsError
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.promises import promise

_WAIT_SECONDS = 120.0
_WRITES = 30
_COUNT = "SELECT count(*) FROM users WHERE github_id >= 2::numeric ^ 62"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(
        Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache"), "dev"
    )


@pytest.fixture
def make_load(database: Database, redis_server: Server, journal: Journal) -> Callable[..., Any]:
    def make(kind: type[DataAccessLoad] = DataAccessLoad) -> DataAccessLoad:
        load = kind(
            {"DATABASE_URL": database.url("app"), "REDIS_URL": redis_server.redis_url("app")}, journal
        )
        load._cache = replace(load._cache, namespace=f"t{uuid.uuid4().hex[:12]}", timeout_seconds=2.0)
        return load

    return make


def run(load: DataAccessLoad, during: Callable[[], object] = lambda: None) -> None:
    """Run a load until it has written and read enough before and after `during`."""
    load.start(0)
    try:
        for act in (during, lambda: None):
            before = len(load.outcome.writes), load.outcome.reads
            goal = before[0] + _WRITES, before[1] + _WRITES
            wait_until(
                lambda goal=goal: (len(load.outcome.writes), load.outcome.reads) >= goal, _WAIT_SECONDS
            )  # type: ignore[misc]
            act()
    finally:
        load.stop()


def rows(connect: Any) -> int:
    with connect("app") as connection:
        return int(connection.execute(_COUNT).fetchone()[0])


def test_a_load_on_healthy_servers_loses_nothing_and_leaves_no_rows(
    make_load: Any, journal: Journal, connect: Any
) -> None:
    load = make_load()
    run(load)
    assert journal.has_rows
    assert rows(connect) > 0
    load.verify()
    # Calls may fail on a busy machine.
    assert (load.outcome.lost_count, load.outcome.stale) == (0, 0)
    assert not journal.has_rows
    assert rows(connect) == 0


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale", control=True)
def test_rows_that_the_database_loses_are_counted(make_load: Any, journal: Journal, connect: Any) -> None:
    def lose() -> None:
        with connect("app") as connection:
            # Not the first rows, which are updated all the time.
            connection.execute("DELETE FROM users WHERE github_id >= 2::numeric ^ 62 + 10")

    load = make_load()
    run(load, lose)
    load.verify()
    assert load.outcome.lost
    # They are evidence until the next run.
    assert journal.has_rows
    assert rows(connect) > 0


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale", control=True)
def test_an_update_that_is_lost_before_the_next_one_is_counted(make_load: Any, connect: Any) -> None:
    def lose() -> None:
        with connect("app") as connection:
            done = connection.execute(
                "UPDATE users SET username = 'groundwork-chaos-0' WHERE github_id = 2::numeric ^ 62"
            )
            assert done.rowcount == 1

    load = make_load()
    run(load, lose)
    wait_until(lambda: bool(load._hot[0].acknowledged), _WAIT_SECONDS)
    load.verify()
    assert {each.github_id for each in load.outcome.lost} == {2**62}
    assert len(load.outcome.lost) < max(each.update for each in load._hot[0].acknowledged)


class _DeafReaders(DataAccessLoad):
    """Readers that no invalidation reaches."""

    async def _read(self, data: AsyncDataAccess, lag: float) -> None:
        deaf = AsyncDataAccess(self._database, replace(self._cache, namespace=f"{self._cache.namespace}x"))
        async with deaf:
            await super()._read(deaf, lag)


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale", control=True)
def test_a_cache_without_invalidations_returns_stale_reads(make_load: Any) -> None:
    load = make_load(_DeafReaders)
    run(load)
    assert load.outcome.stale > 0


def test_the_rows_of_a_killed_run_are_deleted(
    make_load: Any, journal: Journal, database: Database, connect: Any
) -> None:
    run(make_load())
    assert rows(connect) > 0
    assert delete_left_rows(journal, lambda: database.url("app"))
    assert rows(connect) == 0
    assert not delete_left_rows(journal, lambda: pytest.fail("there is nothing to delete"))


def test_a_load_that_cannot_write_is_refused(redis_server: Server, journal: Journal) -> None:
    urls = {
        "DATABASE_URL": "postgresql://app:x@localhost:1/groundwork",
        "REDIS_URL": redis_server.redis_url("app"),
    }
    with pytest.raises(OpsError, match="cannot delete the rows of the load") as found:
        DataAccessLoad(urls, journal).start(0)
    assert found.value.exit_code == Exit.UNREACHABLE
