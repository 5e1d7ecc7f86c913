"""Detection of a connection pooler by the process ids of the server processes that answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import pytest

from db.migrator import PoolerRefused, connection
from tests.promises import promise


class FakeConnection:
    """A connection whose handshake reports one process id, and whose queries are answered by others."""

    def __init__(self, handshake_pid: int, server_pid: Callable[[], int], sent: list[str]) -> None:
        self.info = SimpleNamespace(backend_pid=handshake_pid)
        self._server_pid = server_pid
        self._sent = sent

    def execute(self, query: str | bytes) -> FakeConnection:
        self._sent.append(query if isinstance(query, str) else query.decode())
        return self

    def fetchone(self) -> tuple[int]:
        return (self._server_pid(),)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def opened(
    monkeypatch: pytest.MonkeyPatch,
    pids: tuple[int, int],
    first: Callable[[], int],
    second: Callable[[], int],
) -> list[str]:
    """Open a connection of two fakes, and return the statements that were sent."""
    sent: list[str] = []
    made = iter([FakeConnection(pids[0], first, sent), FakeConnection(pids[1], second, sent)])
    monkeypatch.setattr(connection, "_connect", lambda given: next(made))
    try:
        with connection.open_connection("host=localhost"):
            pass
    except PoolerRefused:
        # A setting of the session would reach the next client of the server process.
        assert not any(", false)" in statement for statement in sent)
        raise
    return sent


@promise("a pooler in transaction mode is refused")
@pytest.mark.parametrize("later", range(4))
def test_a_pooler_that_shares_a_server_process_between_sessions_is_refused(
    monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    # Other clients get the process first for some times.
    answers = count(1000)
    with pytest.raises(PoolerRefused, match="transaction mode"):
        opened(monkeypatch, (901, 902), lambda: 7, lambda: 7 if next(answers) >= 1000 + later else 8)


@promise("a pooler in transaction mode is refused")
def test_a_pooler_that_answers_by_another_server_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = count(7)
    with pytest.raises(PoolerRefused, match="transaction mode"):
        opened(monkeypatch, (901, 902), lambda: next(answers), lambda: 5)


@promise("a pooler in transaction mode is refused", control=True)
def test_one_server_process_per_session_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = opened(monkeypatch, (7, 8), lambda: 7, lambda: 8)
    assert "set_config('statement_timeout', '0', pg_backend_pid() <> 7)" in only
    *_, last = opened(monkeypatch, (901, 902), lambda: 7, lambda: 8)
    assert "set_config('statement_timeout', '0', false)" in last
