"""Interruptions of nested transactions: what is stored, and what the cache serves, always agree."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from db import AsyncDataAccess, DataAccess
from db._sync.transaction import Transaction
from db.errors import QueryFailed, TransactionAborted
from db.models import NewUser
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise
from tests.scale import scaled

STATEMENTS = ("make_savepoint", "roll_back_savepoint", "release_savepoint")


class Interruption(BaseException):
    """As raised by a signal's handler."""


@pytest.fixture
def settings(database: Database, redis_server: Server, namespace: str) -> tuple[Any, Any]:
    return (
        database_settings(database.url("app")),
        cache_settings(redis_server.redis_url("app"), namespace, near_entries=0),
    )


@contextmanager
def interrupted(
    monkeypatch: pytest.MonkeyPatch, name: str, number: int, *, is_sent: bool
) -> Iterator[list[str]]:
    """Interrupt the `number`th statement of a name, before or after it is sent. Yield those that were reached."""
    reached: list[str] = []
    send = Transaction._send

    def interrupting(self: Transaction, sent: str, *arguments: Any) -> str:
        reached.append(sent)
        is_it = sent == name and reached.count(name) == number
        if is_it and not is_sent:
            raise Interruption
        answer = send(self, sent, *arguments)
        if is_it:
            raise Interruption
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "_send", interrupting)
        yield reached


@promise("an error that leaves a nested transaction() undoes it as a whole")
def test_a_nested_block_that_is_interrupted_anywhere_is_undone_as_a_whole(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DataAccess(*settings) as data:
        ids = [data.users.add(NewUser(github_id=n, username="old")).id for n in (1, 2, 3, 4)]
        outer, nested, innermost, after = ids

        def write(user_id: int) -> None:
            data.users.patch(user_id, username=f"new-{next(fresh)}")

        fresh = itertools.count()
        for name, number, is_sent, fails in itertools.product(
            STATEMENTS, (1, 2), (False, True), (False, True)
        ):
            with in_case(name, number, is_sent, fails):
                before = _stored(database)
                with suppress(TransactionAborted), data.transaction():
                    write(outer)
                    with (
                        interrupted(monkeypatch, name, number, is_sent=is_sent) as reached,
                        suppress(Interruption, ValueError, QueryFailed, TransactionAborted),
                        data.transaction(),
                    ):
                        write(nested)
                        with suppress(Interruption), data.transaction():
                            write(innermost)
                            if fails:
                                raise Interruption
                        write(after)
                        if fails:
                            raise ValueError
                now = _stored(database)
                was_reached = reached.count(name) >= number
                changed = {user_id for user_id in ids if now[user_id] != before[user_id]}
                # The whole transaction, without the innermost block, without the nested one, or nothing.
                assert changed in (set(ids), {outer, nested, after}, {outer}, set()), (reached, changed)
                assert was_reached or not fails or changed == {outer}
                assert {u: data.users.get(u).username for u in ids} == now


@promise("an error that leaves a nested transaction() undoes it as a whole")
def test_a_nested_block_that_times_out_is_undone_as_a_whole(
    settings: tuple[Any, Any], database: Database
) -> None:
    async def run() -> int:
        timed_out = 0
        async with AsyncDataAccess(*settings) as data:
            ids = [(await data.users.add(NewUser(github_id=n, username="old"))).id for n in (1, 2, 3)]
            for attempt in range(scaled(150, 2500)):
                before = {u: (await data.users.get(u)).username for u in ids}
                is_over = False
                with suppress(TransactionAborted):
                    async with data.transaction():
                        await data.users.patch(ids[0], username=f"new-{attempt}")
                        try:
                            async with asyncio.timeout(random.uniform(0.0005, 0.006)), data.transaction():
                                await data.users.patch(ids[1], username=f"new-{attempt}")
                                async with data.transaction():
                                    await data.users.patch(ids[2], username=f"new-{attempt}")
                        except TimeoutError:
                            is_over = True
                timed_out += is_over
                served = {u: (await data.users.get(u)).username for u in ids}
                changed = [served[u] != before[u] for u in ids]
                assert changed in ([[True, False, False], [False] * 3] if is_over else [[True] * 3]), attempt
                assert served == _stored(database), attempt
        return timed_out

    assert asyncio.run(run())


def test_the_transaction_is_rolled_back_if_the_end_of_a_nested_block_is_interrupted(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nested block can no longer be undone alone, because its savepoint may be released."""
    with DataAccess(*settings) as data:
        user = data.users.add(NewUser(github_id=1, username="old"))
        with pytest.raises(TransactionAborted), data.transaction():
            with (
                interrupted(monkeypatch, "release_savepoint", 1, is_sent=True),
                suppress(Interruption),
                data.transaction(),
            ):
                data.users.patch(user.id, username="new")
        assert _stored(database) == {user.id: "old"}
        assert data.users.get(user.id).username == "old"


def _stored(database: Database) -> dict[int, str]:
    rows = database.psql("SELECT id, username FROM groundwork.users").split()
    return {int(number): name for number, name in (row.split("|") for row in rows)}
