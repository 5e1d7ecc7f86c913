"""What an interrupted restore leaves behind: which commands are refused, and how it is resumed. No real containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.spec.checkout import Checkout
from ops.backup import restore, restore_record, servers
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.post_restore import PostRestore
from ops.backup.restore import Target
from ops.backup.restore_record import RestoreRecord
from ops.backup.site import BackupSite
from ops.backup.workbench import refuse_during_restore
from ops.errors import Exit, OpsError
from tests.cases import in_case
from tests.unit.commands.test_foreign_text import answers

BEGUN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Steps:
    """The steps of a restore, which only record that they were reached. `failures` says which ones fail, and how."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failures: dict[str, BaseException] = {}
        self.has_recovered = False
        self.has_served = False
        self.is_touched = False
        self.has_only_journal = False
        self.are_up = True

    def step(self, name: str, result: Any = None) -> Callable[..., Any]:
        def reached(*_: Any, **__: Any) -> Any:
            self.done.append(name)
            if name in self.failures:
                raise self.failures[name]
            return result

        return reached

    def stop(self, *_: Any, **__: Any) -> None:
        self.are_up = False
        self.step("stop")()

    def restore_files(self, *_: Any) -> None:
        self.is_touched = True
        self.step("restore files")()

    def recover(self, *_: Any) -> None:
        self.step("recover")()
        self.has_recovered = True

    def bring_back(self, *_: Any) -> None:
        self.step("bring back")()
        self.is_touched = False

    def start_restored(self, *_: Any) -> bool:
        self.step("start restored")()
        self.has_served = True
        return True

    def end(self) -> None:
        self.step("end")()
        self.has_only_journal = True

    def forget(self) -> None:
        self.step("forget")()
        self.is_touched = self.has_recovered = self.has_served = self.has_only_journal = False

    def refuse_past_return(self) -> None:
        if self.has_recovered:
            raise OpsError("has recovered but is not finished", Exit.REFUSED)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(root=tmp_path, key="0a1b2c", state_dir=tmp_path, cache_dir=tmp_path)


@pytest.fixture
def site(checkout: Checkout) -> BackupSite:
    names = ("image", "data", "config", "repository", "postgres", "access")
    return BackupSite("dev", "gw-0a1b2c-dev", *names, lock_file=checkout.stack_dir("dev") / "backup.lock")


@pytest.fixture
def volumes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found = ["data"]
    monkeypatch.setattr(restore_record, "inspect", lambda kind, name: [{}] if name in found else [])
    return found


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, volumes: list[str]) -> Steps:
    steps = Steps()

    @contextmanager
    def bench(_site: BackupSite) -> Iterator[Any]:
        yield SimpleNamespace(name="bench", start_server=answers(None), stop_server=answers(None))

    folders = SimpleNamespace(
        are_touched=lambda: steps.is_touched,
        are_past_return=lambda _: steps.has_recovered,
        have_recovered=lambda: steps.has_recovered,
        refuse_past_return=steps.refuse_past_return,
        bring_back=steps.bring_back,
        have_served=lambda: steps.has_served,
        remove_standby_signal=steps.step("remove standby.signal"),
        clear_copies=steps.step("clear copies"),
        begun=lambda: BEGUN,
        journal=dict,
        release=steps.step("release"),
        end=steps.end,
        has_only_journal=lambda: steps.has_only_journal,
        forget=steps.forget,
    )
    patches = {
        "require_volumes": answers(None),
        "_bench": bench,
        "_folders": answers(folders),
        "_archive_missing": answers(None),
        "_choose": steps.step("choose", SimpleNamespace(size_bytes=1)),
        "require_room": steps.step("require room"),
        "_restore_files": steps.restore_files,
        "_recover": steps.recover,
        "archive_kept": steps.step("archive kept WAL"),
        "_newest_commit": answers(None),
        "_timeline": answers(2),
        "psql": answers(""),
    }
    for name, value in patches.items():
        monkeypatch.setattr(restore, name, value)
    monkeypatch.setattr(restore.markers, "write", answers(None))
    monkeypatch.setattr(servers, "are_up", lambda _: steps.are_up)
    monkeypatch.setattr(servers, "stop", steps.stop)
    monkeypatch.setattr(servers, "start", steps.step("start", "postgres-2"))
    monkeypatch.setattr(servers, "await_others", steps.step("await others"))
    monkeypatch.setattr(servers, "forget_cluster", answers(None))
    monkeypatch.setattr(servers, "start_restored", steps.start_restored)
    return steps


def run(site: BackupSite, steps: Steps) -> restore.Restored:
    post_restore = PostRestore(steps.step("apply roles"), steps.step("flush cache"))
    return restore.restore(site, Target(None), post_restore, answers(None))


def require_refusal(checkout: Checkout) -> None:
    with pytest.raises(OpsError, match="is in progress or was interrupted") as refused:
        refuse_during_restore(checkout, "dev")
    assert refused.value.exit_code == Exit.LOCKED


@pytest.mark.parametrize(
    "step",
    [
        *("stop", "restore files", "recover", "archive kept WAL", "apply roles", "flush cache", "release"),
        *("start restored", "end"),
    ],
)
def test_an_interrupt_at_any_step_after_which_servers_are_stopped_blocks_other_commands(
    site: BackupSite, steps: Steps, checkout: Checkout, step: str
) -> None:
    steps.failures = {step: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(site, steps)
    require_refusal(checkout)
    steps.failures.clear()
    restored = run(site, steps)
    assert restored.resumed == (BEGUN if step not in ("stop", "restore files", "recover") else None)
    refuse_during_restore(checkout, "dev")


@pytest.mark.parametrize("step", ["apply roles", "flush cache", "start restored"])
def test_a_step_that_fails_after_recovery_blocks_other_commands(
    site: BackupSite, steps: Steps, checkout: Checkout, step: str
) -> None:
    steps.failures = {step: BackupError("no")}
    with pytest.raises(BackupError):
        run(site, steps)
    require_refusal(checkout)
    with pytest.raises(OpsError, match="has recovered"):
        restore.abandon(site, answers(None))
    require_refusal(checkout)


def test_a_failure_after_which_the_old_data_is_back_blocks_no_command(
    site: BackupSite, steps: Steps, checkout: Checkout
) -> None:
    steps.failures = {"recover": BackupError("no")}
    with pytest.raises(BackupError, match="the previous data is back and serves again"):
        run(site, steps)
    refuse_during_restore(checkout, "dev")


def test_a_repeated_restore_that_fails_starts_the_servers_that_the_first_run_has_stopped(
    site: BackupSite, steps: Steps, checkout: Checkout
) -> None:
    for step in ("stop", "restore files", "recover"):
        with in_case(step):
            steps.are_up = True
            # The second run is interrupted too, before it fails.
            for _ in range(2):
                steps.failures = {step: KeyboardInterrupt()}
                with pytest.raises(KeyboardInterrupt):
                    run(site, steps)
            # As `plan` does, a run that is refused changes nothing.
            steps.failures = {"choose": OutsideWindow("no backup")}
            steps.done.clear()
            with pytest.raises(OutsideWindow):
                run(site, steps)
            assert steps.done == ["choose"]
            require_refusal(checkout)
            steps.failures = {"recover": BackupError("no")}
            with pytest.raises(BackupError, match="the previous data is back and serves again"):
                run(site, steps)
            assert steps.done[-1] == "start"
            refuse_during_restore(checkout, "dev")


def test_a_failed_restore_of_servers_that_were_down_says_how_to_start_them(
    site: BackupSite, steps: Steps
) -> None:
    steps.are_up = False
    steps.failures = {"recover": BackupError("no")}
    with pytest.raises(
        BackupError, match="is back, and Postgres is still stopped; `groundwork up --stack dev`"
    ):
        run(site, steps)
    assert "start" not in steps.done


def test_a_restore_that_is_refused_before_it_stops_a_server_blocks_no_command(
    site: BackupSite, steps: Steps, checkout: Checkout
) -> None:
    for step in ("choose", "require room"):
        with in_case(step):
            steps.failures = {step: BackupError("refused")}
            with pytest.raises(BackupError, match="refused"):
                run(site, steps)
            assert "stop" not in steps.done
            refuse_during_restore(checkout, "dev")


def test_a_restore_that_was_interrupted_while_it_stopped_the_servers_can_be_abandoned(
    site: BackupSite, steps: Steps, checkout: Checkout
) -> None:
    steps.failures = {"stop": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(site, steps)
    steps.done.clear()
    assert restore.abandon(site, answers(None))
    assert steps.done == ["bring back", "start"]
    refuse_during_restore(checkout, "dev")
    assert not restore.abandon(site, answers(None))


def test_the_cache_is_invalidated_before_a_server_may_start(site: BackupSite, steps: Steps) -> None:
    run(site, steps)
    assert steps.done[-5:] == ["flush cache", "release", "start restored", "end", "forget"]


def test_a_restore_whose_data_volume_was_deleted_is_over(
    site: BackupSite, checkout: Checkout, volumes: list[str]
) -> None:
    record = RestoreRecord.of(site)
    record.path.parent.mkdir(parents=True)
    record.write(site.data_volume)
    require_refusal(checkout)
    volumes.clear()
    refuse_during_restore(checkout, "dev")
    # As after `down --volumes` and `up`.
    volumes.append("data")
    refuse_during_restore(checkout, "dev")


def test_a_resumed_restore_changes_no_data_that_has_served(site: BackupSite, steps: Steps) -> None:
    # A replica may have become the primary meanwhile, and have writes that the first server lacks.
    steps.failures = {"end": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(site, steps)
    # The removal of the old data continues in the container.
    steps.has_only_journal = True
    steps.failures.clear()
    steps.done.clear()
    restored = run(site, steps)
    assert steps.done == ["clear copies", "start", "await others", "end", "forget"]
    assert (restored.is_serving, restored.newest_commit, restored.resumed) == (True, None, BEGUN)


@pytest.mark.parametrize("step", ["apply roles", "start restored"])
def test_a_resumed_restore_whose_data_has_not_served_starts_it_as_a_primary(
    site: BackupSite, steps: Steps, step: str
) -> None:
    steps.failures = {step: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(site, steps)
    steps.failures.clear()
    steps.done.clear()
    run(site, steps)
    assert steps.done == [
        *("stop", "remove standby.signal", "archive kept WAL", "apply roles", "flush cache", "release"),
        *("start restored", "end", "forget"),
    ]


def test_a_restore_that_is_killed_at_its_very_end_is_over(
    site: BackupSite, steps: Steps, checkout: Checkout
) -> None:
    """Only its journal is left. The same command, perhaps weeks later, restores again."""
    steps.failures = {"forget": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run(site, steps)
    refuse_during_restore(checkout, "dev")
    steps.failures.clear()
    steps.done.clear()
    assert run(site, steps).resumed is None
    assert "restore files" in steps.done
