"""The command's refusals, its options and the user's own load."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from ops import cli
from ops.chaos.journal import RUN, Journal
from ops.chaos.load import DataAccessLoad
from ops.chaos.outcome import FaultOutcome, LoadOutcome, Run
from ops.chaos.plan import SLOW, Step
from ops.chaos.program_load import ProgramLoad
from ops.chaos.run import Runner
from ops.chaos.target import require_allowed
from ops.commands.chaos import _run
from ops.errors import Exit, OpsError
from tests.containers import wait_until
from tests.promises import promise


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of the stack dev, which a test may change."""
    values: dict[str, Any] = {"allowChaos": True}
    monkeypatch.setattr(
        "ops.stack.pulumi_stack.PulumiStack.check_settings", lambda _: StackSettings.parse(values)
    )
    return values


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.cli, ["chaos", *arguments])


@promise("chaos is refused on AWS, for protected data, for a name like production, and by default")
def test_a_stack_must_allow_chaos() -> None:
    require_allowed(StackSettings(allow_chaos=True), "dev")
    for values, stack, reason in (
        ({}, "dev", "groundwork:allowChaos is not true"),
        ({"allow_chaos": False}, "dev", "groundwork:allowChaos is not true"),
        ({"allow_chaos": True, "protect_data": True}, "dev", "groundwork:protectData is true"),
        ({"allow_chaos": True}, "prod", "its name looks like production"),
        ({"allow_chaos": True}, "eu-live", "its name looks like production"),
        ({"target": "aws"}, "dev", "it is on AWS"),
    ):
        with pytest.raises(OpsError, match=reason) as found:
            require_allowed(replace(StackSettings(), **values), stack)
        assert found.value.exit_code == Exit.REFUSED, values


def test_a_dry_run_prints_the_plan_of_a_seed(settings: dict[str, Any]) -> None:
    first, second = (json.loads(call("--dry-run", "--json", "--seed", "7").stdout) for _ in range(2))
    assert first == second
    assert first["seed"] == 7
    assert first["steps"]
    assert call("--dry-run", "--seed", "7").stdout.startswith("seed 7\n")
    assert call("--dry-run").stdout != call("--dry-run").stdout


def test_without_a_terminal_consent_is_needed(settings: dict[str, Any]) -> None:
    found = call("--seed", "1")
    assert isinstance(found.exception, OpsError)
    assert found.exception.exit_code == Exit.REFUSED
    assert "pass --yes" in str(found.exception)


def test_a_wrong_option_is_refused(settings: dict[str, Any]) -> None:
    for option, value, reason in (
        ("--for", "5 minutes", "is not a duration"),
        ("--for", "9s", "is out of range"),
        ("--for", "5h", "is out of range"),
        ("--faults", "kill,explode", "unknown fault 'explode'"),
        ("--faults", "kill,,freeze", "'kill,,freeze' has an empty fault beside a comma; remove the comma"),
        ("--faults", "kill,", "has an empty fault beside a comma"),
        ("--services", ",redis", "has an empty service beside a comma"),
        ("--services", "etcd", "unknown service 'etcd'"),
        ("--seed", "-1", "is not in the range"),
    ):
        found = call("--dry-run", option, value)
        assert found.exit_code == Exit.USAGE, (option, value)
        assert reason in found.output, (option, value)


def test_faults_that_the_stack_does_not_allow_are_refused(settings: dict[str, Any]) -> None:
    found = call("--dry-run", "--faults", "switchover")
    assert isinstance(found.exception, OpsError)
    assert found.exception.exit_code == Exit.USAGE
    settings["postgresReplicas"] = 2
    assert call("--dry-run", "--faults", "switchover").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "repeated"),
    [
        ("", ""),
        ("--for 10m", " --for 600s"),
        ("--services redis --faults freeze,kill --strict", " --faults kill,freeze --services redis --strict"),
        ("--stack test --for 2m --load 'run \"a b\"; x'", " --for 120s --load 'run \"a b\"; x'"),
    ],
)
def test_the_hint_repeats_the_whole_plan(
    arguments: str, repeated: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = "test" if "test" in arguments else "dev"
    run = Run(stack, 5, 0.0, "none", has_replicas=False, program_code=1)
    monkeypatch.setattr("ops.commands.chaos._run", lambda *_: run)
    error = call("--yes", "--seed", "5", *shlex.split(arguments)).exception
    assert isinstance(error, OpsError)
    command = f"groundwork chaos --stack {stack} --seed 5{repeated}"
    assert str(error).endswith(f"; repeat the plan with `{command}`")
    plans = [
        call("--dry-run", *shlex.split(each)[2:]).stdout for each in (command, f"a b --seed 5 {arguments}")
    ]
    assert plans[0] == plans[1]


_LEFT = "the slow of redis-2 was not undone; run `groundwork chaos stop --stack dev`"
_SLOW = Step(5, SLOW, "redis replica", 9)
_CAUSED = FaultOutcome(_SLOW, "redis-2", 5.0, took_effect=True)


@pytest.mark.parametrize(
    ("changed", "code", "reason"),
    [
        ({}, 0, ""),
        ({"left": [_LEFT], "not_undone": ["slow of redis-2"]}, Exit.UNREACHABLE, _LEFT),
        ({"left": [_LEFT], "not_undone": ["slow of redis-2"], "was_stopped": True}, Exit.UNREACHABLE, _LEFT),
        (
            {"left": [_LEFT], "not_undone": ["slow of redis-2"], "program_code": 1},
            Exit.UNREACHABLE,
            "exited with 1",
        ),
        # Every reason is named, and docs/chaos.md says which one decides the exit code.
        ({"left": ["redis-2 is exited"], "program_code": 1}, Exit.ERROR, "not recovered: redis-2 is exited"),
        (
            {"left": ["redis-2 is exited"]},
            Exit.UNREACHABLE,
            "not recovered: redis-2 is exited; see `groundwork doctor --stack dev`; repeat the plan with",
        ),
        ({"left": ["redis-2 is exited"], "was_stopped": True}, 130, ""),
        (
            {"left": ["redis-2 is exited"], "faults": []},
            Exit.UNREACHABLE,
            "not recovered: redis-2 is exited; no fault took effect",
        ),
        (
            {"load": LoadOutcome(writes=[1.0], reads=1, unchecked="no primary")},
            Exit.UNREACHABLE,
            "what was written was not looked up: no primary; see",
        ),
        (
            {"load": LoadOutcome(unchecked="no primary"), "was_stopped": True},
            Exit.UNREACHABLE,
            "what was written was not looked up: no primary; see",
        ),
        (
            {"load": LoadOutcome(stale=1, unchecked="no primary"), "left": ["redis-2 is exited"]},
            Exit.ERROR,
            "1 reads were stale; not recovered: redis-2 is exited; what was written was not looked up: no primary",
        ),
        ({"load": LoadOutcome(unchecked="")}, Exit.ERROR, "no write and no read of the load was answered"),
        ({"load": LoadOutcome(unchecked=""), "was_stopped": True}, 130, ""),
        (
            {
                "faults": [
                    _CAUSED,
                    FaultOutcome(_SLOW, "redis-2", 7.0, problem="no engine", took_effect=True, failed=True),
                ]
            },
            Exit.ERROR,
            "slow of redis-2 (replica) failed: no engine; repeat the plan with",
        ),
        ({"faults": [], "skipped": [(_SLOW, "no time was left")]}, Exit.ERROR, "no fault took effect"),
        (
            {"faults": [FaultOutcome(_SLOW, "redis-2", 5.0)]},
            Exit.ERROR,
            "no fault took effect",
        ),
        ({"faults": [], "was_stopped": True}, 130, ""),
    ],
)
def test_the_exit_code_tells_whether_each_fault_was_caused_and_undone(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], code: int, reason: str
) -> None:
    run = Run("dev", 5, 0.0, "none", has_replicas=False, faults=[_CAUSED])
    monkeypatch.setattr("ops.commands.chaos._run", lambda *_: replace(run, **changed))
    found = call("--yes", "--json", "--seed", "5")
    error = found.exception
    assert (error.exit_code if isinstance(error, OpsError) else found.exit_code) == code
    assert reason in str(error or "")
    report = json.loads(found.stdout)
    assert report["notRecovered"] == changed.get("left", [])
    assert report["notLookedUp"] == (changed["load"].unchecked or None if "load" in changed else None)
    if code == 130:
        # There is no error, so the reasons are printed.
        assert all(f"not recovered: {each}" in found.stderr for each in changed.get("left", []))


class _Stopped(DataAccessLoad):
    """A load that is interrupted while it looks up what was written."""

    def verify(self) -> None:
        raise KeyboardInterrupt


class _Undeleted(DataAccessLoad):
    def verify(self) -> None:
        self.outcome.unchecked = ""
        raise OpsError("cannot delete the rows")


@pytest.mark.parametrize(
    ("load", "is_interrupted", "expected"),
    [
        (_Stopped, False, (True, "the command was interrupted", [])),
        # A second Ctrl-C, while the first one is handled.
        (_Undeleted, True, (True, "the command was interrupted", [])),
        (_Undeleted, False, (False, "", ["cannot delete the rows"])),
    ],
)
def test_an_interrupt_does_not_lose_the_report(
    load: type[DataAccessLoad],
    is_interrupted: bool,
    expected: tuple[bool, str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_steps(runner: Runner, steps: list[Step], total: int) -> None:
        runner._run.faults.append(_CAUSED)
        if is_interrupted:
            raise KeyboardInterrupt

    urls = {"DATABASE_URL": "postgresql://app:x@localhost:1/groundwork", "REDIS_URL": "redis://localhost:1"}
    monkeypatch.setattr("ops.stack.connections.environment_of", lambda *_: urls)
    monkeypatch.setattr("ops.chaos.target.ChaosTarget.of", lambda *_: SimpleNamespace(problems=list))
    monkeypatch.setattr("ops.chaos.target.injector_of", lambda *_: None)
    monkeypatch.setattr("ops.chaos.watchdog.watched", lambda *_: nullcontext())
    monkeypatch.setattr("ops.chaos.load.DataAccessLoad", load)
    monkeypatch.setattr(Runner, "run", run_steps)
    checkout = Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache")
    run = _run(checkout, "dev", [], 60, 1, "data-access", has_replicas=False)
    assert run.faults == [_CAUSED]
    assert (run.was_stopped, run.unchecked, [*run.left]) == expected


def test_durations_have_units(settings: dict[str, Any]) -> None:
    for text in ("600", "600s", "10m"):
        found = call("--dry-run", "--json", "--seed", "1", "--for", text)
        assert found.stdout == call("--dry-run", "--json", "--seed", "1", "--for", "10m").stdout


@promise("the next command undoes what a killed run of chaos left")
@pytest.mark.parametrize("command", ["up", "down"])
def test_commands_that_change_the_stack_first_undo_what_is_left(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undo_left(checkout: object, stack: str, *_: object) -> None:
        raise OpsError(f"undoing {stack}")

    stack = "ops.stack.pulumi_stack.PulumiStack"
    for name in ("refuse_another_state", "require_known", "up", "down"):
        monkeypatch.setattr(f"{stack}.{name}", lambda *_, **__: None)
    monkeypatch.setattr(f"{stack}.check_settings", lambda _: StackSettings())
    monkeypatch.setattr(f"{stack}.exists", True)
    monkeypatch.setattr("ops.toolchain.provision.ensure", lambda *_, **__: None)
    monkeypatch.setattr("ops.backup.workbench.refuse_during_restore", lambda *_: None)
    monkeypatch.setattr("ops.backup.workbench.remove_all", lambda *_: None)
    monkeypatch.setattr("ops.stack.change_lock.undo_left", undo_left)
    assert str(CliRunner().invoke(cli.cli, [command]).exception) == "undoing dev"


@pytest.mark.parametrize(("command", "signals"), [(RUN, [signal.SIGTERM]), ("up", []), ("chaos stop", [])])
def test_stop_signals_a_run_and_waits_for_another_command(
    command: str, signals: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def kill(process: int, number: int) -> None:
        sent.append(number)
        # The process has ended meanwhile.
        raise ProcessLookupError

    checkout = Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache")
    monkeypatch.setattr(Checkout, "here", lambda: checkout)
    monkeypatch.setattr("ops.stack.pulumi_stack.PulumiStack.require_known", lambda _: None)
    monkeypatch.setattr("ops.chaos.undo.LOCK_SECONDS", 0)
    monkeypatch.setattr("os.kill", kill)
    with Journal(checkout, "dev").lock(command):
        error = call("stop").exception
    assert isinstance(error, OpsError)
    assert error.exit_code == Exit.LOCKED
    assert sent == signals


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(9)", 9),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; raise SystemExit(os.environ['DATABASE_URL'] != 'x')", 0),
    ],
)
def test_the_exit_code_of_a_program_is_kept(script: str, code: int, tmp_path: Path) -> None:
    load = ProgramLoad(f'{sys.executable} -c "{script}"', {"DATABASE_URL": "x"})
    load.start(0)
    assert load._process is not None
    load._process.wait()
    assert load.is_over
    load.stop()
    assert load.code == code


def test_a_program_that_still_runs_at_the_end_is_ended() -> None:
    load = ProgramLoad("sleep 600", {})
    load.start(0)
    assert not load.is_over
    load.stop()
    assert load.code == 0


@pytest.mark.parametrize(("own", "code"), [(0, 0), (143, 0), (3, 3)])
def test_a_program_may_return_the_code_of_the_sigterm_that_ended_it(
    own: int, code: int, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'exit {own}' TERM; : > {ready}; while :; do sleep 0.02; done"
    load = ProgramLoad(shlex.join(["sh", "-c", script]), {})
    load.start(0)
    wait_until(ready.exists, 30)
    load.stop()
    assert load.code == code


def test_a_program_that_ends_with_143_early_has_failed() -> None:
    load = ProgramLoad("sh -c 'exit 143'", {})
    load.start(0)
    wait_until(lambda: load.is_over, 30)
    load.stop()
    assert load.code == 143


def test_a_program_that_cannot_run_is_refused() -> None:
    for command, reason in (
        ("'", "is not a command"),
        (" ", "is not a command"),
        ("/nonexistent/load", "cannot run"),
    ):
        with pytest.raises(OpsError, match=reason) as found:
            ProgramLoad(command, {}).start(0)
        assert found.value.exit_code == Exit.USAGE
