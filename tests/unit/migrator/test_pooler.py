"""Detection of a connection pooler by the process ids of the server processes that answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from db.migrator import PoolerRefused, lock
from tests.promises import promise


class FakeConnection:
    """A connection whose handshake reports one process id, and whose queries are answered by another one."""

    def __init__(self, handshake_pid: int, server_pid: int) -> None:
        self.info = SimpleNamespace(backend_pid=handshake_pid)
        self._server_pid = server_pid

    def execute(self, query: str) -> FakeConnection:
        assert query == "SELECT pg_backend_pid()"
        return self

    def fetchone(self) -> tuple[int]:
        return (self._server_pid,)

    def transaction(self) -> AbstractContextManager[None]:
        return nullcontext()


def _connect_twice(monkeypatch: pytest.MonkeyPatch, first: FakeConnection, second: FakeConnection) -> None:
    @contextmanager
    def open_second(conninfo: str) -> Iterator[FakeConnection]:
        yield second

    monkeypatch.setattr(lock, "open_connection", open_second)
    lock._refuse_transaction_pooler("", first)  # type: ignore[arg-type]


@promise("a pooler in transaction mode is refused")
def test_a_pooler_that_shares_a_server_process_between_sessions_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(PoolerRefused, match="transaction mode"):
        _connect_twice(monkeypatch, FakeConnection(901, 7), FakeConnection(902, 7))


@promise("a pooler in transaction mode is refused", control=True)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(FakeConnection(7, 7), FakeConnection(8, 8), id="no pooler"),
        pytest.param(FakeConnection(901, 7), FakeConnection(902, 8), id="a pooler in session mode"),
    ],
)
def test_one_server_process_per_session_is_accepted(
    monkeypatch: pytest.MonkeyPatch, first: FakeConnection, second: FakeConnection
) -> None:
    _connect_twice(monkeypatch, first, second)
