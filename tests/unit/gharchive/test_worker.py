"""A worker's steps: what it answers if a step fails or takes too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from db.errors import DbError, OutcomeUnknown, Unavailable
from ops.errors import Exit
from ops.gharchive import event, worker
from ops.gharchive.lines import Line
from ops.gharchive.worker import Answer, LoadedBatch, ParsedBatch, PreparedBatch, Step, receive, send
from tests.cases import in_case
from tests.unit.gharchive.test_jobs import line

LINES = [Line(1, line(7)), Line(2, b"{broken\n"), Line(3, line(8))]


class FakeLoader:
    """Records its calls. `fails` has the names of those that raise `error`."""

    def __init__(self, *fails: str, error: DbError | None = None) -> None:
        self.fails = fails
        self.error = error or Unavailable("the database cannot be reached")
        self.calls: list[str] = []
        self.has_rolled_back = Event()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.error

    def prepare(self, events: Sequence[event.Event]) -> Any:
        self._call("prepare")
        return SimpleNamespace(events=events)

    def load_prepared(self, prepared: Any, wait: Callable[[], bool]) -> bool:
        self._call("store")
        try:
            self.are_changed = wait()
        except Exception:
            self.calls.append("roll back")
            self.has_rolled_back.set()
            raise
        self._call("commit")
        return self.are_changed

    def load(self, events: Sequence[event.Event]) -> int:
        self._call("load")
        return len(events)


def load(
    loader: FakeLoader, finish_after: Callable[[], object] = lambda: None, finish: Step = Step.FINISH
) -> tuple[PreparedBatch, LoadedBatch]:
    """Load LINES like the importing process, which grants the last step after `finish_after`."""
    ours, theirs = Pipe()
    with ours, theirs:
        thread = Thread(target=lambda: worker._Worker(theirs, loader).load(LINES))  # type: ignore[arg-type]
        thread.start()
        answers: list[Any] = [receive(ours, Answer)]  # type: ignore[arg-type]
        assert answers[0] == ParsedBatch([7, 8])
        send(ours, Step.PREPARE)
        answers.append(receive(ours, Answer))  # type: ignore[arg-type]
        finish_after()
        send(ours, finish)
        answers.append(receive(ours, Answer))  # type: ignore[arg-type]
        thread.join()
    return answers[1], answers[2]


def test_a_batch_is_stored_before_its_turn_and_committed_then() -> None:
    loader = FakeLoader()
    prepared, loaded = load(loader)
    assert prepared.is_prepared
    assert (loaded.result.loaded, loaded.result.known, loaded.error) == (2, 0, None)
    assert [rejected.number for rejected, _ in loaded.result.rejected] == [2]
    assert loader.calls == ["prepare", "store", "commit"]


@pytest.mark.parametrize(("finish", "are_changed"), [(Step.FINISH, True), (Step.FINISH_UNCHANGED, False)])
def test_the_last_step_says_whether_parties_have_changed(finish: Step, are_changed: bool) -> None:
    loader = FakeLoader()
    _, loaded = load(loader, finish=finish)
    assert loader.are_changed is are_changed
    assert loaded.has_changes is are_changed


def test_a_batch_whose_step_fails_is_loaded_alone() -> None:
    cases: list[tuple[str, list[str]]] = [
        ("prepare", ["prepare", "load"]),
        ("store", ["prepare", "store", "load"]),
        ("commit", ["prepare", "store", "commit", "load"]),
    ]
    for fails, calls in cases:
        with in_case(fails, calls):
            loader = FakeLoader(fails)
            prepared, loaded = load(loader)
            assert prepared.is_prepared == (fails != "prepare")
            assert (loaded.result.loaded, loaded.error) == (2, None)
            assert loader.calls == calls


def test_a_batch_whose_outcome_is_unknown_is_not_loaded_again() -> None:
    loader = FakeLoader("commit", error=OutcomeUnknown("the connection was lost during COMMIT"))
    _, loaded = load(loader)
    assert loaded.error == "the connection was lost during COMMIT"
    assert loader.calls == ["prepare", "store", "commit"]


def test_a_transaction_ends_if_its_turn_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_TURN_SECONDS", 0)
    loader = FakeLoader()
    _, loaded = load(loader, loader.has_rolled_back.wait)
    assert (loaded.result.loaded, loaded.error) == (2, None)
    assert loader.calls == ["prepare", "store", "roll back", "load"]


def test_an_error_keeps_its_message_and_exit_code() -> None:
    _, loaded = load(FakeLoader("store", "load"))
    assert loaded.error is not None
    assert "the database cannot be reached" in loaded.error
    assert loaded.exit_code == Exit.UNREACHABLE
    # The lines that were rejected before are reported.
    assert len(loaded.result.rejected) == 1
