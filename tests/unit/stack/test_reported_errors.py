"""An error that Pulumi reports fails the command, even if Pulumi exits with 0."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.stack import pulumi_events, pulumi_stack
from ops.stack.pulumi_stack import _ADVICE, PulumiStack
from tests.promises import promise

# Writes its events to the given file. Pulumi does so only with PULUMI_DEBUG_COMMANDS.
_PULUMI = f"""#!{sys.executable}
import os, sys, time
assert os.environ["PULUMI_DEBUG_COMMANDS"] == "true"
for part in os.environ.get('SAYS', '').split('|'):
    print(part, end='', flush=True)
    time.sleep(0.01)
with open(sys.argv[sys.argv.index("--event-log") + 1], "w") as log:
    log.write(os.environ["EVENTS"])
sys.exit(int(os.environ["CODE"]))
"""
Pulumi = Callable[..., None]


def diagnostic(severity: str, message: str, *, ephemeral: bool = False) -> dict[str, object]:
    return {"diagnosticEvent": {"severity": severity, "message": message, "ephemeral": ephemeral}}


@pytest.fixture
def stack(tmp_path: Path) -> PulumiStack:
    return PulumiStack(Checkout(tmp_path, "1a2b3c", tmp_path / "state", tmp_path / "cache"), "dev")


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pulumi:
    """Return pulumi(*events, code=0), which puts a Pulumi on PATH that logs these events and exits with that code."""

    def install(*events: dict[str, object], code: int = 0, says: str = "") -> None:
        (tmp_path / "pulumi").write_text(_PULUMI)
        (tmp_path / "pulumi").chmod(0o755)
        text = "".join(f"{json.dumps(event)}\n" for event in events)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        monkeypatch.setenv("PATH", path)
        monkeypatch.setattr(
            pulumi_stack,
            "environment",
            lambda checkout: {"PATH": path, "EVENTS": text, "CODE": str(code), "SAYS": says},
        )

    return install


@promise("`up` fails when Pulumi reports an error and exits with 0")
@pytest.mark.parametrize("command", ["up", "refresh", "destroy", "preview"])
def test_an_error_fails_the_command_although_pulumi_exits_with_0(
    stack: PulumiStack, pulumi: Pulumi, command: str
) -> None:
    pulumi(
        {"summaryEvent": {"resourceChanges": {"same": 46}}},
        diagnostic("error", "Detected that the-plugin exited prematurely. \n  Traceback: ..."),
    )
    with pytest.raises(
        OpsError, match=f"`pulumi {command}` reported an error .*the-plugin exited prematurely"
    ):
        stack._stream(command)


@promise("`up` fails when Pulumi reports an error and exits with 0", control=True)
def test_a_run_without_errors_is_not_affected(stack: PulumiStack, pulumi: Pulumi) -> None:
    pulumi(
        diagnostic("info", "pending migration: 0001_users.up.sql"),
        diagnostic("info#err", "error: a line that a plugin wrote on stderr"),
        diagnostic("warning", "deprecated"),
        diagnostic("error", "shown for a moment", ephemeral=True),
    )
    assert stack._stream("up") == 0


# As Pulumi writes it, with what the plugin has printed.
_PREMATURE = (
    "Detected that /plugins/pulumi-resource-docker exited prematurely. \n       This is *always* a bug in the provider."
    " Please report the issue to the provider author as appropriate.\n       To assist with debugging we have dumped"
    " the STDOUT and STDERR streams of the plugin:{printed}\n"
)


@promise("`up` succeeds although a plugin is too slow to confirm its end")
@pytest.mark.parametrize(("command", "code"), [("up", 0), ("destroy", 0), ("preview", 7)])
def test_a_plugin_that_only_did_not_confirm_its_end_is_ignored(
    stack: PulumiStack, pulumi: Pulumi, capfd: pytest.CaptureFixture[str], command: str, code: int
) -> None:
    pulumi(*[diagnostic("error", _PREMATURE.format(printed=""))] * 2, code=code)
    assert stack._stream(command, accepted=(code,)) == code
    assert capfd.readouterr().err.count("ignoring the error about pulumi-resource-docker above") == 1


@promise("`up` succeeds although a plugin is too slow to confirm its end", control=True)
def test_a_plugin_that_crashed_at_its_end_fails_the_command(stack: PulumiStack, pulumi: Pulumi) -> None:
    pulumi(diagnostic("error", _PREMATURE.format(printed="panic: runtime error\ngoroutine 1 [running]")))
    with pytest.raises(OpsError, match="pulumi-resource-docker exited prematurely"):
        stack._stream("up")


@pytest.mark.parametrize(
    ("says", "shown"),
    [
        (
            "Duration: 2s|\nThe res|ources in the stack have been del|eted, but|\nrun `pulumi stack rm`\n",
            "Duration: 2s\n",
        ),
        ("The resources in |use\nThe resour", "The resources in use\nThe resour"),
    ],
)
def test_pulumi_s_advice_to_remove_the_stack_is_not_shown(
    stack: PulumiStack,
    pulumi: Pulumi,
    capfdbinary: pytest.CaptureFixture[bytes],
    says: str,
    shown: str,
) -> None:
    """The advice arrives in pieces. `down --volumes` removes the stack itself."""
    pulumi(says=says)
    stack._stream("destroy", until=_ADVICE)
    assert capfdbinary.readouterr().out.decode() == shown


def test_a_failed_run_is_reported_as_before(stack: PulumiStack, pulumi: Pulumi) -> None:
    stack.state_file.parent.mkdir(parents=True)
    stack.state_file.write_text('{"checkpoint": {}}')
    pulumi(diagnostic("error", "the reason"), code=255)
    with pytest.raises(OpsError, match="`pulumi up` failed for stack 'dev'; see the reason above"):
        stack._stream("up")


def test_a_slow_operation_is_reported_with_its_time(tmp_path: Path) -> None:
    def event(
        kind: str, name: str, op: str, timestamp: int, type_: str = "docker:index/remoteImage:RemoteImage"
    ) -> str:
        urn = f"urn:pulumi:dev::groundwork::{type_}::{name}"
        return (
            json.dumps({"timestamp": timestamp, kind: {"metadata": {"op": op, "urn": urn, "type": type_}}})
            + "\n"
        )

    log = tmp_path / "events.json"
    log.write_text(
        event("resourcePreEvent", "stack", "create", 900, "pulumi:pulumi:Stack")
        + event("resourcePreEvent", "redis-image", "create", 900)
        + event("resourcePreEvent", "postgres-image", "create", 925)
        + event("resourcePreEvent", "data-bridge", "same", 925)
        + event("resourcePreEvent", "access-image", "create", 998)
        + event("resOutputsEvent", "redis-image", "create", 990)
        + '{"timestamp": 999, "resourceP'
    )
    assert pulumi_events.unfinished(log, 1000.0) == ["postgres-image (1:15 min)"]
    assert pulumi_events.unfinished(tmp_path / "none", 1000.0) == []


def test_progress_that_cannot_be_printed_does_not_end_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def print_line(*_: object, **__: object) -> None:
        (tmp_path / "printed").touch()
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(pulumi_events, "print_line", print_line)
    monkeypatch.setattr(pulumi_events, "unfinished", lambda *_: ["image (0:20 min)"])
    monkeypatch.setattr(pulumi_events, "_TELL_SECONDS", 0.01)
    waiting = f"import os, time\nwhile not os.path.exists('{tmp_path}/printed'): time.sleep(0.01)"
    with subprocess.Popen([sys.executable, "-c", waiting]) as process:
        assert pulumi_events.await_end(process, tmp_path / "events.json") == 0
