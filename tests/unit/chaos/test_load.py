"""The load through the data access, without servers: how it starts and ends, and what it counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from db.errors import DbError, NotFound, Unavailable
from db.models import User
from infra.spec.checkout import Checkout
from ops.chaos import load as loading
from ops.chaos.journal import Journal
from ops.chaos.load import DataAccessLoad
from ops.errors import Exit, OpsError
from tests.promises import promise

# Nothing listens there.
_URLS = {"DATABASE_URL": "postgresql://app:x@localhost:1/groundwork", "REDIS_URL": "redis://localhost:1"}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataAccessLoad:
    """A load whose rows of an earlier run are deleted already."""
    monkeypatch.setattr(loading, "delete_rows", lambda *_: None)
    monkeypatch.setattr(loading, "_DEADLINE_SECONDS", 0.1)
    checkout = Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache")
    return DataAccessLoad(_URLS, Journal(checkout, "dev"))


def test_a_load_that_was_interrupted_before_it_began_can_be_stopped(
    load: DataAccessLoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "delete_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load.start(0)
    load.stop()


def test_a_load_that_cannot_write_reports_it_once(
    load: DataAccessLoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first write is not repeated.
    monkeypatch.setattr(loading, "_START_SECONDS", 0.0)
    monkeypatch.setattr(load._ready, "wait", lambda _: load._thread.join())
    with pytest.raises(OpsError, match="the load cannot write to the stack: ") as found:
        load.start(0)
    load.stop()
    assert found.value.exit_code == Exit.UNREACHABLE


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale", control=True)
@pytest.mark.parametrize(
    ("error", "counted"), [(NotFound("user", "id 7"), (1, 1, 0)), (Unavailable("no connection"), (0, 0, 1))]
)
def test_a_read_that_finds_nothing_is_stale(
    load: DataAccessLoad, error: DbError, counted: tuple[int, int, int]
) -> None:
    async def read() -> User:
        raise error

    asyncio.run(load._check(read(), 0))
    assert (load.outcome.reads, load.outcome.stale, len(load.outcome.errors)) == counted
