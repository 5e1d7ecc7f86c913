"""The journal of active faults, and the lock of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from infra.docker.engine import DockerError
from infra.spec.checkout import Checkout
from ops.chaos import undo as undoing
from ops.chaos.journal import RUN, ActiveFault, Holder, Journal
from ops.chaos.undo import undo, undo_left
from ops.errors import Exit, OpsError
from tests.promises import promise


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache")


@pytest.fixture
def journal(checkout: Checkout) -> Journal:
    return Journal(checkout, "dev")


def fault(token: str, until: float = 1.0) -> ActiveFault:
    return ActiveFault(token, "freeze", "postgres", "gw-0a1b2c-dev-postgres", until)


class Injector:
    """Undoes faults. Those of `broken` fail."""

    def __init__(self, *broken: str) -> None:
        self.undone: list[str] = []
        self._broken = broken

    def undo(self, active: ActiveFault) -> None:
        if active.token in self._broken:
            raise DockerError("no engine")
        self.undone.append(active.token)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undoing, "_PAUSE_SECONDS", 0)


def test_a_fault_is_recorded_until_it_was_undone(journal: Journal) -> None:
    journal.add(fault("a", 1))
    journal.add(fault("b", 2))
    assert Journal(journal.checkout, "dev").active() == [fault("b", 2), fault("a", 1)]
    undo(journal, Injector(), fault("a"))  # type: ignore[arg-type]
    assert journal.active() == [fault("b", 2)]
    assert Journal(journal.checkout, "other").active() == []


def test_a_fault_that_cannot_be_undone_stays_recorded(journal: Journal) -> None:
    journal.add(fault("a"))
    with pytest.raises(
        OpsError, match=r"cannot undo the freeze of postgres: no engine; run .* chaos stop"
    ) as found:
        undo(journal, Injector("a"), fault("a"))  # type: ignore[arg-type]
    assert found.value.exit_code == Exit.UNREACHABLE
    assert journal.active() == [fault("a")]


@promise("the next command undoes what a killed run of chaos left")
def test_the_next_command_undoes_all_that_it_can(
    journal: Journal, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    injector, said = Injector("b"), list[str]()
    monkeypatch.setattr("ops.chaos.target.injector_of", lambda *_: injector)
    monkeypatch.setattr("infra.docker.ownership.require_own", lambda *_: [])
    undo_left(checkout, "dev", "up", said.append)
    assert not journal.folder.exists()
    for token in "abc":
        journal.add(fault(token))
    with pytest.raises(OpsError, match="no engine"):
        undo_left(checkout, "dev", "up", said.append)
    assert sorted(injector.undone) == ["a", "c"]
    assert len(said) == 2
    assert [each.token for each in journal.active()] == ["b"]


def test_only_one_run_holds_the_lock(journal: Journal, checkout: Checkout) -> None:
    assert journal.holder() is None
    with journal.lock(RUN):
        assert journal.holder() == Holder(RUN, os.getpid())
        with pytest.raises(OpsError, match="is running on stack 'dev'") as found, journal.lock("up"):
            pass
        assert found.value.exit_code == Exit.LOCKED
        with pytest.raises(OpsError, match="is running"):
            undo_left(checkout, "dev", "up", print)
        with Journal(checkout, "other").lock(RUN):
            pass
    assert journal.holder() is None
    with journal.lock(RUN):
        pass


def test_a_command_that_undoes_what_a_run_left_is_named(journal: Journal) -> None:
    with journal.lock("up"):
        holder = journal.holder()
        assert holder is not None
        # `chaos stop` would end this process.
        assert not holder.is_run
        refusal = rf"`groundwork up` \(process {os.getpid()}\) undoes the faults of chaos on stack 'dev'"
        with pytest.raises(OpsError, match=refusal) as found, journal.lock("down"):
            pass
        assert found.value.exit_code == Exit.LOCKED


def test_the_lock_has_no_name_after_its_release(journal: Journal) -> None:
    # The next holder would have it until it has written its own.
    with journal.lock(RUN):
        assert (journal.folder / "lock").read_text() == f"{os.getpid()} chaos"
    assert (journal.folder / "lock").read_text() == ""


@pytest.mark.parametrize("written", ["1234", ""])
def test_a_lock_of_an_earlier_version_names_no_command(journal: Journal, written: str) -> None:
    with journal.lock(RUN):
        (journal.folder / "lock").write_text(written)
        holder = journal.holder()
        assert holder is not None
        assert not holder.is_run
        with pytest.raises(OpsError, match="another command undoes the faults"), journal.lock("up"):
            pass


def test_an_entry_of_an_earlier_version_is_read(journal: Journal) -> None:
    journal.add(fault("a"))
    (path,) = journal.folder.glob("fault-*.json")
    entry = json.loads(path.read_text())
    del entry["started"], entry["volume"]
    path.write_text(json.dumps(entry))
    assert journal.active() == [fault("a")]


def test_the_journal_is_private(journal: Journal) -> None:
    journal.add(fault("a"))
    assert journal.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in journal.folder.iterdir()} == {0o600}
