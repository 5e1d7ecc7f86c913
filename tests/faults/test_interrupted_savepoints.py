"""Nested transactions that are interrupted at one of their control statements, or at any other moment.

An error that leaves a nested block undoes this block and nothing else, and the cache has what is stored.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import psycopg
import pytest

from db import AsyncDataAccess, DataAccess, load_queries
from db._async.connection import AsyncBoundedConnection
from db._async.transaction import AsyncBlock, AsyncTransaction
from db._async.transaction import _current as _current_of_task
from db._async.transaction import innermost_block as innermost_block_of_task
from db._sync.connection import BoundedConnection
from db._sync.transaction import Block, Transaction, _current, innermost_block
from db.errors import DbError, TransactionAborted
from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server
from tests.faults.interrupts import Interrupt, Interrupted
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise
from tests.scale import IS_FULL, scaled

RUNS = scaled(300, 2500)
STRIDE = scaled(8, 1)
NAMES = ("outer", "before", "inner", "keyed", "after")
# How the outer and the inner nested block end.
ENDS = [("", ""), ("", "error"), ("error", ""), ("error", "error")]
CONTROL = ("make_savepoint", "release_savepoint", "roll_back_savepoint")
SLOW = load_queries(
    """
-- name: sleep :read
-- Wait.
-- takes: nothing
-- gives: int
SELECT 1 FROM pg_sleep(30)
"""
)["sleep"]


@pytest.fixture
def settings(database: Database, redis_server: Server, namespace: str) -> tuple[Any, Any]:
    return (
        database_settings(database.url("app"), pool_size=2, pool_min_size=1),
        # Without near cache, because another one may serve a stale entry for a moment.
        cache_settings(redis_server.redis_url("app"), namespace, near_entries=0),
    )


def _stored(database: Database) -> dict[str, str]:
    """Return the email of each user, by name."""
    rows = database.psql("SELECT username || '=' || coalesce(email, '') FROM groundwork.users").split()
    return dict(row.split("=") for row in rows)


@dataclass
class Run:
    """The writes of one run, and which of its nested blocks an error has left."""

    ids: dict[str, int]
    number: int
    # Which errors leave the blocks without an interrupt.
    ends: tuple[str, str] = ("", "")
    left: set[str] = field(default_factory=set)

    @property
    def email(self) -> str:
        return f"{self.number}@example.org"

    def expected(self, before: dict[str, str]) -> dict[str, str]:
        """Return what is stored after the outermost block has committed."""
        written = {"outer"}
        if "nested" not in self.left:
            written |= {"before", "after"}
            if "inner" not in self.left:
                written |= {"inner", "keyed"}
        return before | dict.fromkeys(written, self.email)

    def __call__(self, data: DataAccess) -> None:
        ids, email = self.ids, self.email
        with data.transaction():
            data.users.patch(ids["outer"], email=email)
            try:
                with data.transaction():
                    data.users.patch(ids["before"], email=email)
                    try:
                        with data.transaction():
                            data.users.patch(ids["inner"], email=email)
                            data.users.patch(ids["keyed"], email=email, idempotency_key=f"k{self.number}")
                            if self.ends[1]:
                                raise KeyError
                    except (KeyError, KeyboardInterrupt, Interrupted):
                        self.left.add("inner")
                    data.users.patch(ids["after"], email=email)
                    if self.ends[0]:
                        raise KeyError
            except (KeyError, KeyboardInterrupt, Interrupted):
                self.left.add("nested")

    async def of_task(self, data: AsyncDataAccess, cancelling: Cancelling) -> None:
        ids, email = self.ids, self.email
        async with data.transaction():
            await data.users.patch(ids["outer"], email=email)
            try:
                async with data.transaction():
                    await data.users.patch(ids["before"], email=email)
                    try:
                        async with data.transaction():
                            await data.users.patch(ids["inner"], email=email)
                            key = f"k{self.number}"
                            await data.users.patch(ids["keyed"], email=email, idempotency_key=key)
                            if self.ends[1]:
                                raise KeyError
                    except (KeyError, asyncio.CancelledError):
                        cancelling.stop()
                        self.left.add("inner")
                    await data.users.patch(ids["after"], email=email)
                    if self.ends[0]:
                        raise KeyError
            except (KeyError, asyncio.CancelledError):
                cancelling.stop()
                self.left.add("nested")


class Cancelling:
    """Cancels this task while the n-th control statement of a savepoint waits for its answer.

    With `again` at each step of the event loop from then on, until `stop`.
    """

    def __init__(self, at: int, *, again: bool) -> None:
        self.sent = 0
        self._at = at
        self._again = again
        self._is_on = False
        task = asyncio.current_task()
        assert task is not None
        self._task = task

    def sending(self, name: str) -> None:
        if name in CONTROL:
            if self.sent == self._at:
                self._is_on = True
                asyncio.get_running_loop().call_soon(self._cancel)
            self.sent += 1

    def _cancel(self) -> None:
        if self._is_on:
            self._task.cancel()
            if self._again:
                asyncio.get_running_loop().call_soon(self._cancel)

    def stop(self) -> None:
        self._is_on = False
        while self._task.cancelling():
            self._task.uncancel()


@asynccontextmanager
async def _naive_savepoint_of_task(self: AsyncTransaction) -> AsyncIterator[None]:
    """The negative control: one name for all savepoints, and a RELEASE that nothing protects."""
    around = self.innermost
    self.innermost = block = AsyncBlock(self, innermost_block_of_task())
    try:
        await self._control("make_savepoint")
        try:
            block.enter(_current_of_task)
            yield
        except BaseException:
            with suppress(DbError):
                block.undo()
                await self._control("roll_back_savepoint", least=1.0)
                await self._control("release_savepoint", least=1.0)
            raise
        await self._control("release_savepoint")
        around.effects += block.effects
    finally:
        self._end(block, around)


@contextmanager
def _naive_savepoint(self: Transaction) -> Iterator[None]:
    around = self.innermost
    self.innermost = block = Block(self, innermost_block())
    try:
        self._control("make_savepoint")
        try:
            block.enter(_current)
            yield
        except BaseException:
            with suppress(DbError):
                block.undo()
                self._control("roll_back_savepoint", least=1.0)
                self._control("release_savepoint", least=1.0)
            raise
        self._control("release_savepoint")
        around.effects += block.effects
    finally:
        self._end(block, around)


def _cancelled_at_control_statements(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> tuple[int, list[str]]:
    """Cancel at each control statement in turn. Return the number of cancelled runs, and what was wrong."""
    wrong: list[str] = []
    cancelling: list[Cancelling] = []
    send = AsyncTransaction._send

    async def sending(self: AsyncTransaction, name: str, *arguments: Any) -> str:
        for each in cancelling:
            each.sending(name)
        return await send(self, name, *arguments)

    monkeypatch.setattr(AsyncTransaction, "_send", sending)

    async def scenario() -> int:
        cancelled = number = 0
        async with AsyncDataAccess(*settings) as data:
            ids = await _add_users_of_task(data)
            for ends in ENDS:
                at, is_reached = 0, True
                while is_reached:
                    run, before = Run(ids, number := number + 1, ends), _stored(database)
                    cancelling[:] = [one] = [Cancelling(at, again=again)]
                    where = f"control statement {at} of {ends}"
                    try:
                        await run.of_task(data, one)
                    except (DbError, asyncio.CancelledError) as error:
                        wrong.append(f"{type(error).__name__} at {where}")
                    one.stop()
                    cancelling.clear()
                    is_reached, at = one.sent > at, at + 1
                    cancelled += is_reached
                    await _check_of_task(data, run, before, _stored(database), where, wrong)
        return cancelled

    return asyncio.run(scenario()), wrong


async def _add_users_of_task(data: AsyncDataAccess) -> dict[str, int]:
    return {
        name: (await data.users.add(NewUser(github_id=n, username=name, email=""))).id
        for n, name in enumerate(NAMES, start=1)
    }


def _add_users(data: DataAccess) -> dict[str, int]:
    return {
        name: data.users.add(NewUser(github_id=n, username=name, email="")).id
        for n, name in enumerate(NAMES, start=1)
    }


async def _check_of_task(
    data: AsyncDataAccess,
    run: Run,
    before: dict[str, str],
    after: dict[str, str],
    where: str,
    wrong: list[str],
) -> None:
    if after != run.expected(before):
        wrong.append(f"stored at {where}")
    cached = {name: (await data.users.get(number)).email for name, number in run.ids.items()}
    if cached != after:
        wrong.append(f"cached at {where}")


def _check(
    data: DataAccess, run: Run, before: dict[str, str], after: dict[str, str], where: str, wrong: list[str]
) -> None:
    if after != run.expected(before):
        wrong.append(f"stored at {where}")
    if {name: data.users.get(number).email for name, number in run.ids.items()} != after:
        wrong.append(f"cached at {where}")


@promise("an error that leaves a nested block undoes this block and nothing else")
@pytest.mark.parametrize("again", [False, True])
def test_a_task_cancelled_at_a_control_statement_undoes_the_block_that_it_leaves(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Also if it is cancelled again at each await, as anyio does. The outermost block always commits."""
    cancelled, wrong = _cancelled_at_control_statements(settings, database, monkeypatch, again=again)
    assert wrong == []
    assert cancelled >= 15


@promise("an error that leaves a nested block undoes this block and nothing else", control=True)
def test_naive_savepoints_keep_what_a_cancelled_block_has_written(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AsyncTransaction, "savepoint", _naive_savepoint_of_task)
    _, wrong = _cancelled_at_control_statements(settings, database, monkeypatch, again=False)
    assert any(each.startswith("stored") for each in wrong)
    assert any(each.startswith("cached") for each in wrong)


@promise("an error that leaves a nested block undoes this block and nothing else")
def test_a_task_cancelled_at_a_random_moment_undoes_the_block_that_it_leaves(
    settings: tuple[Any, Any], database: Database
) -> None:
    async def scenario() -> tuple[int, list[str]]:
        timeouts, wrong = 0, []
        async with AsyncDataAccess(*settings) as data:
            ids = await _add_users_of_task(data)
            for number in range(RUNS):
                email = f"{number}@example.org"
                seconds = random.uniform(0.0008, 0.006)
                written = {"outer", "inner", "keyed"}
                async with data.transaction():
                    await data.users.patch(ids["outer"], email=email)
                    try:
                        async with asyncio.timeout(seconds), data.transaction():
                            await data.users.patch(ids["inner"], email=email)
                            await data.users.patch(ids["keyed"], email=email, idempotency_key=f"k{number}")
                    except TimeoutError:
                        timeouts += 1
                        written = {"outer"}
                found = {name: (await data.users.get_by_github_id(n)).email for n, name in _BY_NUMBER}
                if {name for name in found if found[name] == email} != written:
                    wrong.append(f"stored after {seconds}")
                cached = {name: (await data.users.get(ids[name])).email for name in ids}
                if cached != found:
                    wrong.append(f"cached after {seconds}")
        return timeouts, wrong

    timeouts, wrong = asyncio.run(scenario())
    assert wrong == []
    assert timeouts > RUNS / 20


_BY_NUMBER = [*enumerate(NAMES, start=1)]


def _interrupted_at_control_statements(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch, when: str
) -> tuple[int, int, list[str]]:
    """Interrupt each control statement in turn. Return the interrupted runs, those that failed, and what was wrong."""
    wrong: list[str] = []
    counted = [-1, 0]
    send = Transaction._send

    def sending(self: Transaction, name: str, *arguments: Any) -> str:
        is_now = False
        if name in CONTROL:
            is_now = counted[0] == counted[1]
            counted[1] += 1
        if is_now and when == "before":
            raise KeyboardInterrupt
        tag = send(self, name, *arguments)
        if is_now:
            raise KeyboardInterrupt
        return tag

    monkeypatch.setattr(Transaction, "_send", sending)
    interrupted = failed = number = 0
    with DataAccess(*settings) as data:
        ids = _add_users(data)
        for ends in ENDS:
            at, is_reached = 0, True
            while is_reached:
                run, before = Run(ids, number := number + 1, ends), _stored(database)
                counted[:] = [at, 0]
                where = f"{when} control statement {at} of {ends}"
                is_committed = True
                try:
                    run(data)
                except DbError:
                    is_committed = False
                    failed += 1
                is_reached, at = counted[1] > at, at + 1
                counted[0] = -1
                interrupted += is_reached
                after = _stored(database)
                if is_committed:
                    _check(data, run, before, after, where, wrong)
                elif after != before:
                    wrong.append(f"stored at {where}")
    return interrupted, failed, wrong


@promise("an error that leaves a nested block undoes this block and nothing else")
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_at_a_control_statement_undoes_the_block_that_it_leaves(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Of a signal handler. One that arrives while a block is undone may undo the whole transaction."""
    interrupted, failed, wrong = _interrupted_at_control_statements(settings, database, monkeypatch, when)
    assert wrong == []
    assert interrupted >= 15
    # Those at a ROLLBACK TO, after which the block around it is undone too.
    assert failed <= interrupted / 2


@promise("an error that leaves a nested block undoes this block and nothing else", control=True)
def test_naive_savepoints_keep_what_an_interrupted_block_has_written(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transaction, "savepoint", _naive_savepoint)
    _, _, wrong = _interrupted_at_control_statements(settings, database, monkeypatch, "after")
    assert any(each.startswith("stored") for each in wrong)
    assert any(each.startswith("cached") for each in wrong)


# The signal may arrive in a finalizer, where Python reports the exception and continues.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@promise("an error that leaves a nested block undoes this block and nothing else")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interrupted] if IS_FULL else [KeyboardInterrupt])
def test_a_signal_at_a_random_moment_undoes_the_block_that_it_leaves(
    settings: tuple[Any, Any], database: Database, kind: type[BaseException]
) -> None:
    is_armed = False

    def interrupt(*_: object) -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise kind

    handler = signal.signal(signal.SIGALRM, interrupt)
    interrupted, wrong, late = 0, [], 0
    try:
        with DataAccess(*settings) as data:
            ids = _add_users(data)
            for number in range(RUNS):
                email = f"{number}@example.org"
                written = {"outer", "inner", "keyed"}
                try:
                    with data.transaction():
                        data.users.patch(ids["outer"], email=email)
                        try:
                            is_armed = True
                            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0003, 0.004))
                            with data.transaction():
                                data.users.patch(ids["inner"], email=email)
                                data.users.patch(ids["keyed"], email=email, idempotency_key=f"k{number}")
                            is_armed = False
                        except kind:
                            interrupted += 1
                            written = {"outer"}
                except DbError:
                    written = set()
                found = {name: data.users.get_by_github_id(n).email for n, name in _BY_NUMBER}
                stored = {name for name in found if found[name] == email}
                if stored == {"outer", "inner", "keyed"} and written == {"outer"}:
                    # The signal has arrived after the last line of the block's own code.
                    late += 1
                elif stored != written:
                    wrong.append(f"stored {stored}, expected {written}")
                if {name: data.users.get(ids[name]).email for name in ids} != found:
                    wrong.append("cached")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert wrong == []
    assert interrupted > RUNS / 20
    assert late <= interrupted / 10


@promise("an error that leaves a nested block undoes this block and nothing else")
def test_an_exception_at_any_line_of_a_nested_block_leaves_the_cache_with_what_is_stored(
    settings: tuple[Any, Any], database: Database
) -> None:
    with DataAccess(*settings) as data:
        ids = _add_users(data)

        def run(number: int, interrupt: Interrupt) -> bool:
            email = f"{number}@example.org"
            with suppress(DbError), data.transaction():
                data.users.patch(ids["outer"], email=email)
                try:
                    with interrupt, data.transaction():
                        data.users.patch(ids["inner"], email=email)
                        data.users.patch(ids["keyed"], email=email, idempotency_key=f"k{number}")
                except Interrupted:
                    return True
            return False

        run(0, counted := Interrupt())
        late = []
        for number in range(1 + random.randrange(STRIDE), counted.lines, STRIDE):
            is_interrupted = run(number, interrupt := Interrupt(number))
            found = {name: data.users.get_by_github_id(n).email for n, name in _BY_NUMBER}
            stored = {name for name in found if found[name] == f"{number}@example.org"}
            assert stored in (set(), {"outer"}, {"outer", "inner", "keyed"}), interrupt.where
            assert {name: data.users.get(ids[name]).email for name in ids} == found, interrupt.where
            if is_interrupted and "inner" in stored:
                late.append(interrupt.where)
        # Only in the frames around the block's own, which have nothing left to do.
        assert not [where for where in late if "transaction.py" in where]


@promise("an error that leaves a nested block undoes this block and nothing else")
def test_a_slow_query_cancelled_by_anyio_undoes_its_block_only(
    settings: tuple[Any, Any], database: Database
) -> None:
    """anyio cancels again at each await, also while the query is cancelled and the block is undone."""

    async def scenario() -> None:
        async with AsyncDataAccess(*settings) as data:
            ids = await _add_users_of_task(data)
            async with data.transaction():
                await data.users.patch(ids["outer"], email="kept")
                for _ in range(5):
                    with anyio.move_on_after(0.05) as scope:
                        async with data.transaction():
                            await data.users.patch(ids["inner"], email="undone")
                            await data.fetch_all(SLOW, int)
                    assert scope.cancelled_caught
                await data.users.patch(ids["after"], email="kept")
            assert (await data.users.get(ids["inner"])).email == ""

    asyncio.run(scenario())
    stored = _stored(database)
    assert {name for name in stored if stored[name] == "kept"} == {"outer", "after"}
    assert stored["inner"] == ""


@promise("an error that leaves a nested block undoes this block and nothing else")
def test_a_slow_savepoint_whose_task_is_cancelled_does_not_abort_the_block_around_it(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    savepoint = AsyncTransaction._savepoint

    def slow(name: str, block: AsyncBlock) -> bytes:
        return (b"SELECT pg_sleep(0.3); " if name == "make_savepoint" else b"") + savepoint(name, block)

    monkeypatch.setattr(AsyncTransaction, "_savepoint", staticmethod(slow))

    async def scenario() -> None:
        async with AsyncDataAccess(*settings) as data:
            ids = await _add_users_of_task(data)
            async with data.transaction():
                await data.users.patch(ids["outer"], email="kept")
                for _ in range(2):
                    with anyio.move_on_after(0.05) as scope:
                        async with data.transaction():
                            raise AssertionError("never inside")
                    assert scope.cancelled_caught
                async with data.transaction():
                    await data.users.patch(ids["inner"], email="kept")

    asyncio.run(scenario())
    assert {name for name, email in _stored(database).items() if email == "kept"} == {"outer", "inner"}


@promise("an error that leaves a nested block undoes this block and nothing else", control=True)
def test_a_connection_of_psycopg_is_closed_if_its_query_is_cancelled_by_anyio(database: Database) -> None:
    async def scenario() -> bool:
        connection = await psycopg.AsyncConnection.connect(database.url("app"))
        async with connection:
            with anyio.move_on_after(0.05):
                await connection.execute("SELECT pg_sleep(30)")
            return connection.closed

    assert asyncio.run(scenario())


@pytest.mark.parametrize("depth", [0, 1])
def test_a_block_that_continues_after_a_write_was_interrupted_is_undone(
    settings: tuple[Any, Any], database: Database, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    """The server may have executed it, but the cache does not know what it has changed."""
    fetch = AsyncBoundedConnection.fetch

    async def interrupted(self: AsyncBoundedConnection, *arguments: Any) -> Any:
        await fetch(self, *arguments)
        raise asyncio.CancelledError

    async def write(data: AsyncDataAccess, user_id: int) -> None:
        with monkeypatch.context() as patched, suppress(asyncio.CancelledError):
            patched.setattr(AsyncBoundedConnection, "fetch", interrupted)
            await data.users.patch(user_id, email="interrupted")

    async def nested(data: AsyncDataAccess, user_id: int) -> None:
        async with data.transaction():
            await write(data, user_id)

    async def scenario() -> None:
        async with AsyncDataAccess(*settings) as data:
            ids = await _add_users_of_task(data)
            if depth:
                async with data.transaction():
                    await data.users.patch(ids["outer"], email="kept")
                    with pytest.raises(TransactionAborted):
                        await nested(data, ids["inner"])
            else:
                with pytest.raises(TransactionAborted):
                    async with data.transaction():
                        await write(data, ids["inner"])
            assert (await data.users.get(ids["inner"])).email == ""

    asyncio.run(scenario())
    stored = _stored(database)
    assert stored["inner"] == ""
    assert stored["outer"] == ("kept" if depth else "")


def test_a_nested_block_takes_one_round_trip(
    settings: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In addition to those of its statements. Its savepoint is released together with the next one of its depth."""
    sent: list[str] = []
    execute = BoundedConnection.execute

    def recording(self: BoundedConnection, query: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(query.decode())
        return execute(self, query, *arguments, **options)

    with DataAccess(*settings) as data:
        user = data.users.add(NewUser(github_id=1, username="ada"))
        monkeypatch.setattr(BoundedConnection, "execute", recording)
        with data.transaction():
            for _ in range(2):
                with data.transaction(), data.transaction():
                    data.users.patch(user.id, email="new")
            with suppress(KeyError), data.transaction():
                raise KeyError
        monkeypatch.undo()
    first, second = "SAVEPOINT groundwork_1", "SAVEPOINT groundwork_2"
    assert sent == [
        "BEGIN",
        *(first, second),
        *(f"RELEASE {first}; {first}", second),
        *(f"RELEASE {first}; {first}", f"ROLLBACK TO {first}"),
        "COMMIT",
    ]
