"""The refusal of an `up` on AWS after a killed one: it names what may exist although the state lacks it."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from ops.cli import main
from ops.errors import Exit, OpsError
from ops.stack import pulumi_stack
from ops.stack.pulumi_stack import PulumiStack
from ops.stack.pulumi_state import refuse_pending_creates

TASK_RUN = "pulumi-python:dynamic/aws:TaskRun"


def pending(type_: str, name: str, operation: str = "creating") -> dict[str, Any]:
    urn = f"urn:pulumi:prod::groundwork::groundwork:aws:Postgres${type_}::{name}"
    return {"type": operation, "resource": {"urn": urn, "type": type_}}


def test_the_refusal_names_the_resources_and_a_command_that_a_shell_can_run() -> None:
    found = [pending("aws:rds/instance:Instance", "postgres"), pending("aws:iam/role:Role", "access")]
    with pytest.raises(OpsError, match="was creating postgres, access; ") as refused:
        refuse_pending_creates({"pending_operations": found}, "prod")
    assert refused.value.exit_code == Exit.REFUSED
    assert "\n" not in str(refused.value)
    command = shlex.split(str(refused.value).split("`")[1].partition(" && ")[2])
    # One option for each URN and one for each id: Pulumi rejects "URN ID" in one value.
    given = [value for option, value in pairwise(command) if option.startswith("--import")]
    assert given == [found[0]["resource"]["urn"], "ID", found[1]["resource"]["urn"], "ID"]
    assert command[-1] == "--clear-pending-creates"


def test_what_the_next_up_resumes_is_not_refused() -> None:
    deletion = pending("aws:rds/instance:Instance", "postgres", "deleting")
    # Pulumi also records its own components and providers, which exist only in the state.
    own = [pending("groundwork:aws:Network", "network"), pending("pulumi:providers:aws", "default")]
    for found in ([], [pending(TASK_RUN, "bootstrap")], [deletion], own):
        refuse_pending_creates({"pending_operations": found}, "prod")
    refuse_pending_creates({}, "prod")


@pytest.mark.parametrize(
    ("command", "target", "code"),
    [
        (["up"], "aws", Exit.REFUSED),
        (["down", "--volumes", "--yes"], "aws", Exit.REFUSED),
        (["restore", "--adopt", "restored", "--yes"], "aws", Exit.REFUSED),
        (["up"], "docker", Exit.FINE),
    ],
    ids=["up on AWS", "down on AWS", "restore on AWS", "up in Docker"],
)
def test_a_command_is_refused_before_it_changes_anything(
    command: list[str],
    target: str,
    code: Exit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    checkout = Checkout(Path(__file__).parents[3], "1a2b3c", tmp_path / "state", tmp_path / "cache")
    stack = PulumiStack(checkout, "prod")
    stack.state_file.parent.mkdir(parents=True)
    latest = {"pending_operations": [pending("aws:rds/instance:Instance", "postgres")]}
    stack.state_file.write_text(json.dumps({"checkpoint": {"latest": latest}}))
    values = {"groundwork:target": target, "groundwork:protectData": "false"}
    settings = StackSettings.parse(
        values | ({"groundwork:awsRegion": "eu-central-1"} if target == "aws" else {})
    )
    done: list[str] = []
    monkeypatch.setattr(Checkout, "here", lambda: checkout)
    monkeypatch.setattr(PulumiStack, "check_settings", lambda self: settings)
    monkeypatch.setattr(PulumiStack, "refuse_another_state", lambda self: None)
    monkeypatch.setattr(pulumi_stack, "ensure_stack", lambda *_: None)
    for name, value in (
        ("ops.policy.guard.refuse_unsafe_up", lambda _: done.append("preview")),
        ("ops.backup.workbench.refuse_during_restore", lambda *_: done.append("check")),
        ("ops.stack.pulumi_stack.PulumiStack.up", lambda _: done.append("up")),
        ("ops.stack.pulumi_stack.PulumiStack.down", lambda _, **__: done.append("down")),
        ("ops.backup.rds.Instance.of", lambda *_: SimpleNamespace(stack="prod")),
        ("ops.backup.rds_adoption.Adoption.of", lambda *_: done.append("adopt")),
        ("ops.toolchain.provision.ensure", lambda *_, **__: None),
        ("ops.stack.stack_status.next_steps", lambda *_: []),
        ("ops.stack.stack_status.old_packages", lambda *_: {}),
    ):
        monkeypatch.setattr(name, value)
    with pytest.raises(SystemExit) as over:
        main([*command, "--stack", "prod"])
    assert over.value.code == code
    assert done == ([] if code else ["check", "up"])
    assert ("was creating postgres" in capfd.readouterr().err) is bool(code)


def test_a_stack_without_a_state_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Checkout(Path(__file__).parents[3], "1a2b3c", tmp_path / "state", tmp_path / "cache")
    created: list[str] = []
    monkeypatch.setattr(pulumi_stack, "ensure_stack", lambda _, name: created.append(name))
    PulumiStack(checkout, "prod").refuse_pending_creates()
    assert created == []
