"""The load through the data access, without servers: how it starts and ends, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from db.errors import DbError, NotFound, OutcomeUnknown, Unavailable, VersionConflict
from db.models import User
from infra.spec.checkout import Checkout
from ops.chaos import load as loading
from ops.chaos.journal import Journal
from ops.chaos.load import DataAccessLoad, _HotUser
from ops.errors import Exit, OpsError
from tests.promises import promise

# How many updates a writer makes in a test.
_UPDATES = 12
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


def test_the_outcome_says_why_writes_were_not_looked_up(load: DataAccessLoad) -> None:
    assert load.outcome.unchecked == "the command was interrupted"
    load.verify()
    assert "Connection refused" in load.outcome.unchecked
    assert load.outcome.lost_count is None


class Row:
    """One user in Postgres. `events` maps the number of an update to what happens instead of it."""

    def __init__(self, load: DataAccessLoad, events: dict[int, Callable[[Row, User], None]]) -> None:
        now = datetime.now(UTC)
        self.stored = User(7, 2**62, "groundwork-chaos-0", None, {}, now, now, 100)
        self.history = [self.stored]
        self._load, self._events, self._calls = load, events, 0

    async def update(self, user: User) -> User:
        self._calls += 1
        if self._calls == _UPDATES:
            self._load._stopped.set()
        if event := self._events.get(self._calls):
            event(self, user)
        self.apply(user)
        return self.stored

    def apply(self, user: User) -> None:
        if user.row_version != self.stored.row_version:
            raise VersionConflict("user", user.id, user.row_version)
        self.stored = changed(user, row_version=user.row_version + 1)
        self.history.append(self.stored)

    async def get_by_github_id(self, github_id: int) -> User:
        return self.stored


def set_back(row: Row, user: User) -> None:
    """Lose the last two updates, as a failover to a replica that is behind does."""
    row.stored = row.history[-3]


def overwrite(row: Row, user: User) -> None:
    """Write the first value again, which raises the row version."""
    row.stored = changed(row.stored, username="groundwork-chaos-0", row_version=row.stored.row_version + 1)


def apply_without_answer(row: Row, user: User) -> None:
    row.apply(user)
    raise OutcomeUnknown("no answer")


def give_no_answer(row: Row, user: User) -> None:
    raise OutcomeUnknown("no answer")


def lose_what_has_no_answer(row: Row, user: User) -> None:
    """Lose an update without an answer, although the writer has read it."""
    row.stored = row.history[-2]


@promise("chaos exits with 1 if an acknowledged write was lost or a read was stale", control=True)
@pytest.mark.parametrize(
    ("events", "lost"),
    [
        ({}, []),
        ({6: set_back}, [5, 4]),
        ({6: overwrite}, [5, 4, 3, 2, 1]),
        ({6: apply_without_answer}, []),
        ({6: give_no_answer}, []),
        ({6: apply_without_answer, 7: lose_what_has_no_answer}, []),
        # Update 6 was never acknowledged, and update 5 was.
        ({6: apply_without_answer, 7: set_back}, [5]),
        # The loss is noticed by the next update that is acknowledged.
        ({6: set_back, 7: give_no_answer}, [5, 4]),
    ],
)
def test_an_update_that_is_lost_before_the_next_one_is_counted(
    load: DataAccessLoad,
    monkeypatch: pytest.MonkeyPatch,
    events: dict[int, Callable[[Row, User], None]],
    lost: list[int],
) -> None:
    for pause in ("_WRITE_PAUSE", "_ERROR_PAUSE"):
        monkeypatch.setattr(loading, pause, 0)
    row = Row(load, events)
    hot = _HotUser(row.stored)
    data: Any = SimpleNamespace(users=row, cache=SimpleNamespace(breaker=SimpleNamespace(is_open=False)))
    asyncio.run(load._update(data, hot))
    assert [each.update for each in load.outcome.lost] == lost
    # No loss is counted a second time at the end.
    assert loading.lost_writes({2**62: row.stored.username}, hot.acknowledged) == []
    assert len(load.outcome.writes) == len(lost) + len(hot.acknowledged)
