"""The checks before an `up` on AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from infra.policy.value import UNKNOWN
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from ops.cli import main
from ops.errors import Exit, OpsError
from ops.policy.guard import refuse_unsafe_up
from ops.stack.pulumi_stack import JSON_PREVIEW, PulumiStack
from tests.cases import in_case
from tests.policy_stack import STACK, changed, good_stack, preview, without
from tests.promises import promise


class Previewed:
    """A stack with a given preview."""

    name = STACK

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def preview_json(self) -> str:
        return json.dumps(self._content)


def guard(content: dict[str, Any]) -> None:
    refuse_unsafe_up(cast(PulumiStack, Previewed(content)))


@pytest.mark.parametrize(
    "new", [good_stack(), changed(good_stack(), "postgres", multiAz=UNKNOWN)], ids=["good", "undetermined"]
)
def test_an_up_without_losses_may_continue(new: Any, capsys: pytest.CaptureFixture[str]) -> None:
    guard(preview(good_stack(), new))
    assert capsys.readouterr().out == ""


@promise("a change that loses data is refused before it starts")
@pytest.mark.parametrize(
    ("new", "code", "says"),
    [
        (without(good_stack(), "redis"), Exit.REFUSED, "would lose data"),
        (changed(good_stack(), "postgres", skipFinalSnapshot=True), Exit.REFUSED, "would lose data"),
        (
            changed(good_stack(), "postgres", multiAz=False),
            Exit.MISMATCH,
            r"1 policy violation \(listed above\)",
        ),
    ],
    ids=["deleted", "guard and rule", "rule"],
)
def test_an_up_with_violations_is_refused_before_it_starts(
    new: Any, code: Exit, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OpsError, match=says) as refused:
        guard(preview(good_stack(), new))
    assert refused.value.exit_code is code
    assert "fix:" in capsys.readouterr().err


class Streamed(PulumiStack):
    """A stack that runs nothing, and records the options for Pulumi."""

    def prepare(self) -> StackSettings:
        settings = TARGETS[self.name]
        return StackSettings.parse(settings)

    def _stream(self, *arguments: str, **how: Any) -> None:
        STREAMED.append(arguments)


TARGETS: dict[str, dict[str, Any]] = {
    "on-aws": {"groundwork:target": "aws", "groundwork:awsRegion": "eu-central-1"},
    "on-docker": {"groundwork:target": "docker"},
}
STREAMED: list[tuple[str, ...]] = []


def test_only_on_aws_the_engine_gets_the_policy_pack() -> None:
    counts: list[tuple[str, int]] = [("on-aws", 1), ("on-docker", 0)]
    runs: list[tuple[str, Callable[[PulumiStack], None]]] = [
        ("up", PulumiStack.up),
        ("preview", PulumiStack.preview),
    ]
    for stack, count in counts:
        for name, run in runs:
            with in_case(stack, count, name):
                STREAMED.clear()
                run(Streamed(Checkout.here(), stack))
                (arguments,) = STREAMED
                assert arguments.count("--policy-pack") == count
                if count:
                    folder = Path(arguments[arguments.index("--policy-pack") + 1])
                    assert (folder / "PulumiPolicy.yaml").is_file()


def test_a_json_preview_shows_everything_without_the_policy_pack() -> None:
    STREAMED.clear()
    Streamed(Checkout.here(), "on-aws").preview(*JSON_PREVIEW)
    assert STREAMED == [("preview", "--json", "--show-sames")]


@pytest.mark.parametrize(("stack", "asked"), [("on-aws", True), ("on-docker", False)])
def test_only_on_aws_an_up_is_previewed_first(
    stack: str, asked: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(PulumiStack, "check_settings", lambda self: StackSettings.parse(TARGETS[self.name]))
    monkeypatch.setattr(PulumiStack, "up", lambda self: done.append("up"))
    monkeypatch.setattr(PulumiStack, "public_outputs", lambda self: {})
    monkeypatch.setattr(PulumiStack, "refuse_another_state", lambda self: None)
    monkeypatch.setattr(PulumiStack, "refuse_pending_creates", lambda self: None)
    monkeypatch.setattr("ops.stack.stack_status.next_steps", lambda *_: [])
    monkeypatch.setattr("ops.toolchain.provision.ensure", lambda checkout, docker: None)
    monkeypatch.setattr("ops.backup.workbench.refuse_during_restore", lambda *_: None)
    monkeypatch.setattr("ops.stack.change_lock.changing", lambda *_: nullcontext())
    monkeypatch.setattr("ops.policy.guard.refuse_unsafe_up", lambda target: done.append("preview"))
    with pytest.raises(SystemExit) as exited:
        main(["up", "--stack", stack])
    assert exited.value.code == 0, capsys.readouterr().err
    assert done == (["preview", "up"] if asked else ["up"])


def test_a_failed_preview_prevents_the_up() -> None:
    content = preview(good_stack(), good_stack()) | {"diagnostics": [{"severity": "error", "message": "no"}]}
    with pytest.raises(OpsError, match="failed"):
        guard(content)
