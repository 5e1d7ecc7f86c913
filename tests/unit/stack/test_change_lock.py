"""Commands that change a stack's servers exclude each other, chaos, and an interrupted restore."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from infra.docker.engine import DockerError
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from infra.spec.postgres_cluster import MEMBERS
from ops.backup.restore_record import RestoreRecord
from ops.backup.site import excluding_backups
from ops.chaos.journal import RUN, ActiveFault, Journal
from ops.cli import main
from ops.errors import Exit, OpsError
from ops.stack.change_lock import changing
from ops.stack.cluster import PRIMARY, Member
from tests.promises import promise
from tests.unit.commands.test_foreign_text import SITE, STACK, UNLOCKED, answers, fails

CLUSTER = [
    "cluster switchover --to postgres-2 --yes",
    "cluster switchover --service redis --yes",
    "cluster failover --yes",
    "cluster failover --service redis --yes",
    "cluster reinit postgres-2 --yes",
]
ROTATE = ["rotate passwords app --yes", "rotate certificates --yes"]
RESTORE = ["restore --to LATEST --yes", "restore --abandon"]
ALL = [*CLUSTER, *ROTATE, *RESTORE, "up", "down", "chaos --yes"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout with a state of its own. A command that gets past the lock ends with an AssertionError."""
    checkout = Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache")
    monkeypatch.setattr(Checkout, "here", lambda: checkout)
    late = fails(AssertionError("the command began"))
    reached = SimpleNamespace(
        **dict.fromkeys(
            ("switch_over", "require_no_primary", "successor", "require_copyable", "members"), late
        )
    )
    patches = {key: value for key, value in (STACK | SITE).items() if key not in UNLOCKED} | {
        "ops.stack.pulumi_stack.PulumiStack.check_settings": lambda _: StackSettings(allow_chaos=True),
        "ops.stack.pulumi_stack.PulumiStack.up": late,
        "ops.stack.pulumi_stack.PulumiStack.down": late,
        "ops.backup.workbench.remove_all": late,
        "ops.backup.restore.abandon": late,
        "ops.backup.restore.plan": late,
        "ops.stack.cluster.Cluster.of": answers(reached),
        "ops.stack.redis_cluster.RedisCluster.of": answers(reached),
        "ops.stack.connections.environment_of": answers({}),
        "ops.chaos.target.ChaosTarget.of": late,
        "ops.rotation.subject.RotatedStack.check_running": late,
        "ops.rotation.subject.RotatedStack.roles": answers(("app",)),
        "ops.commands.rotate._refuse_on_aws": answers(None),
    }
    for name, value in patches.items():
        monkeypatch.setattr(name, value)
    return checkout


def refusal(capfd: pytest.CaptureFixture[str], command: str) -> str:
    with pytest.raises(SystemExit) as over:
        main(command.split())
    err = capfd.readouterr().err
    assert over.value.code == Exit.LOCKED, err
    return str(err.splitlines()[-1])


@promise("commands that change a stack's servers refuse to run at the same time")
@pytest.mark.parametrize("command", ALL)
def test_a_command_is_refused_while_another_changes_the_stack(
    command: str, checkout: Checkout, capfd: pytest.CaptureFixture[str]
) -> None:
    with changing(checkout, "dev", "cluster switchover"):
        line = refusal(capfd, command)
    assert "stack 'dev' is being changed by `groundwork cluster switchover` (process " in line
    with changing(checkout, "test", "up"), pytest.raises(AssertionError, match="the command began"):
        main(command.split())


def test_down_is_refused_while_a_backup_or_drill_is_running(
    checkout: Checkout, capfd: pytest.CaptureFixture[str]
) -> None:
    with excluding_backups(checkout, "dev"):
        line = refusal(capfd, "down")
    assert "stack 'dev' is locked by a backup, restore or drill of process " in line
    with excluding_backups(checkout, "test"), pytest.raises(AssertionError, match="the command began"):
        main(["down"])


@promise("commands that change a stack's servers refuse to run at the same time")
@pytest.mark.parametrize("command", ALL)
def test_a_command_is_refused_while_chaos_is_running(
    command: str, checkout: Checkout, capfd: pytest.CaptureFixture[str]
) -> None:
    with Journal(checkout, "dev").lock(RUN):
        assert "`groundwork chaos stop --stack dev`" in refusal(capfd, command)


@pytest.mark.parametrize("command", [*CLUSTER, *ROTATE, "up", "cluster status --service postgres"])
def test_a_command_names_an_interrupted_restore(
    command: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    checkout.stack_dir("dev").mkdir(parents=True, exist_ok=True)
    RestoreRecord.of_stack(checkout, "dev").write("data")
    monkeypatch.setattr("ops.backup.restore_record.inspect", answers([{}]))
    assert "`groundwork restore --abandon --stack dev`" in refusal(capfd, command)


def test_only_a_command_that_removes_the_servers_continues_if_a_fault_cannot_be_undone(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fault = ActiveFault("0a", "fill", "redis", checkout.name("dev", "redis"), 0.0)
    Journal(checkout, "dev").add(fault)
    monkeypatch.setattr("infra.docker.ownership.require_own", answers([]))
    monkeypatch.setattr(
        "ops.chaos.target.injector_of", answers(SimpleNamespace(undo=fails(DockerError("no"))))
    )
    monkeypatch.setattr("ops.chaos.undo._PAUSE_SECONDS", 0)
    for command in sorted({*ALL} - {"down"}):
        with pytest.raises(SystemExit) as over:
            main(command.split())
        assert over.value.code == Exit.UNREACHABLE, command
        assert "cannot undo the fill of redis: no" in capfd.readouterr().err
    with pytest.raises(AssertionError, match="the command began"):
        main(["down"])
    assert "warning: cannot undo the fill of redis: no; run `groundwork chaos stop" in capfd.readouterr().err
    # Without --volumes, the file stays in the data volume.
    assert Journal(checkout, "dev").active() == [fault]


def test_the_lock_is_released_after_an_error(checkout: Checkout) -> None:
    with pytest.raises(OpsError, match="no"), changing(checkout, "dev", "up"):
        raise OpsError("no")
    with changing(checkout, "dev", "down"):
        pass


@pytest.mark.parametrize(
    "command",
    [
        "cluster switchover --yes",
        "cluster switchover --service redis --yes",
        "cluster failover --yes",
        "cluster failover --service redis --yes",
    ],
)
def test_an_interrupted_move_does_not_advise_to_repeat_it(
    command: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    interrupted = fails(KeyboardInterrupt())
    target = SimpleNamespace(
        switch_over=interrupted,
        fail_over=interrupted,
        require_no_primary=answers(None),
        successor=answers(Member(MEMBERS[1], "", PRIMARY, "running")),
    )
    monkeypatch.setattr("ops.stack.cluster.Cluster.of", answers(target))
    monkeypatch.setattr("ops.stack.redis_cluster.RedisCluster.of", answers(target))
    monkeypatch.setattr("ops.commands.cluster._flush_cache", answers(None))
    with pytest.raises(SystemExit) as over:
        main(command.split())
    assert over.value.code == 130
    line = capfd.readouterr().err.splitlines()[-1]
    assert line == (
        "groundwork: interrupted; the primary may have moved already; see `groundwork cluster status --stack dev`"
    )


def test_other_interrupted_commands_advise_to_repeat_them(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.stack.pulumi_stack.PulumiStack.up", fails(click.Abort()))
    with pytest.raises(SystemExit):
        main(["up"])
    assert capfd.readouterr().err.endswith("groundwork: interrupted; run the same command again to resume\n")
