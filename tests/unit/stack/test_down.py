"""`down` of a stack whose containers differ from its state, after a kill or a manual change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.docker import ownership
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from infra.state_folder import ensure_id
from ops.cli import main
from ops.errors import Exit, OpsError
from ops.stack import recorded
from ops.stack.pulumi_stack import PulumiStack
from tests.promises import promise

ROOT = Path(__file__).parents[3]
CONTAINER, VOLUME = "docker:index/container:Container", "docker:index/volume:Volume"


class Docker:
    """The engine's containers (id by name) without owner labels, as an earlier version created them."""

    def __init__(self, **containers: str) -> None:
        self.containers = containers

    def command(self, *arguments: str, **_: Any) -> str:
        if arguments[:2] == ("container", "rm"):
            self.containers = {n: i for n, i in self.containers.items() if i != arguments[-1]}
        if arguments[:2] == ("container", "ls"):
            return "".join(f"{identity}\t{name}\t\t\t\t\n" for name, identity in self.containers.items())
        return ""

    def inspect(self, kind: str, *ids: str) -> list[dict[str, Any]]:
        return [{} for identity in ids if identity in self.containers.values()]


@pytest.fixture
def stack(tmp_path: Path) -> PulumiStack:
    """A stack in Docker, with two containers and a volume in its state."""
    found = PulumiStack(Checkout(ROOT, "1a2b3c", tmp_path / "state", tmp_path / "cache"), "dev")
    found.state_file.parent.mkdir(parents=True)
    resources = [
        {"urn": f"urn:pulumi:dev::groundwork::{kind}::{name}", "type": kind, "id": identity}
        for kind, name, identity in (
            (CONTAINER, "postgres", "p1"),
            (CONTAINER, "redis", "r1"),
            (VOLUME, "data", "d1"),
        )
    ]
    found.state_file.write_text(json.dumps({"checkpoint": {"latest": {"resources": resources}}}))
    return found


def down(stack: PulumiStack, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take the stack down, and return the Pulumi commands that were run."""
    called: list[str] = []

    def stream(self: PulumiStack, command: str, *arguments: str, **_: Any) -> int:
        called.append(command)
        return 0

    monkeypatch.setattr(ownership, "docker", docker.command)
    monkeypatch.setattr(recorded, "inspect", docker.inspect)
    monkeypatch.setattr(PulumiStack, "_stream", stream)
    stack.down(volumes=False)
    return called


def test_nothing_is_refreshed_if_the_containers_match_the_state(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = Docker(postgres="p1", redis="r1")
    assert down(stack, docker, monkeypatch) == ["destroy"]
    assert docker.containers == {"postgres": "p1", "redis": "r1"}


def test_a_missing_container_is_refreshed_first(stack: PulumiStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider stops a container before it removes it, and fails if the container does not exist."""
    assert down(stack, Docker(redis="r1"), monkeypatch) == ["refresh", "destroy"]


def test_a_container_that_is_not_in_the_state_is_removed(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    docker = Docker(postgres="p1", redis="r1", access="a2")
    assert down(stack, docker, monkeypatch) == ["destroy"]
    assert docker.containers == {"postgres": "p1", "redis": "r1"}
    assert "removed access, which an interrupted run had left behind" in capfd.readouterr().err


@promise("`protectData` protects every resource that holds data")
@pytest.mark.parametrize(("is_protected", "code"), [("true", Exit.REFUSED), ("false", Exit.FINE)])
def test_protected_data_is_not_deleted(
    stack: PulumiStack,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    is_protected: str,
    code: Exit,
) -> None:
    """Although --yes is given. The control is a stack whose data is not protected."""
    docker = Docker(postgres="p1", redis="r1")
    called: list[str] = []
    settings = StackSettings.parse({"groundwork:protectData": is_protected})
    monkeypatch.setattr(Checkout, "here", lambda: stack.checkout)
    monkeypatch.setattr(PulumiStack, "check_settings", lambda self: settings)
    monkeypatch.setattr(PulumiStack, "down", lambda self, *, volumes: called.append("down"))
    monkeypatch.setattr("ops.toolchain.provision.ensure", lambda *_, **__: None)
    monkeypatch.setattr("ops.backup.workbench.remove_all", lambda _: called.append("remove"))
    monkeypatch.setattr(ownership, "docker", docker.command)
    with pytest.raises(SystemExit) as over:
        main(["down", "--volumes", "--yes"])
    assert over.value.code == code
    assert called == ([] if code else ["remove", "down"])
    said = capfd.readouterr().err
    assert ("set it to false in Pulumi.dev.yaml and run the same command again" in said) is bool(code)


@promise("a stack on AWS is torn down only if its settings and waivers allow it")
@pytest.mark.parametrize("target", ["aws", "docker"])
@pytest.mark.parametrize(
    ("protection", "code"),
    [
        ({"protect": True}, Exit.REFUSED),
        ({"outputs": {"deletionProtection": True}}, Exit.REFUSED),
        ({"protect": False, "outputs": {"deletionProtection": False}}, Exit.FINE),
    ],
    ids=["by Pulumi", "by RDS", "not"],
)
def test_what_the_state_protects_on_aws_is_not_deleted_after_an_edit_of_the_settings(
    stack: PulumiStack,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    target: str,
    protection: dict[str, Any],
    code: Exit,
) -> None:
    kind = "aws:rds/instance:Instance"
    resources = [{"urn": f"urn:pulumi:dev::groundwork::{kind}::postgres", "type": kind, **protection}]
    stack.state_file.write_text(json.dumps({"checkpoint": {"latest": {"resources": resources}}}))
    called: list[str] = []
    edited = {"groundwork:protectData": "false", "groundwork:target": target}
    if target == "aws":
        edited["groundwork:awsRegion"] = "eu-central-1"
    monkeypatch.setattr(Checkout, "here", lambda: stack.checkout)
    monkeypatch.setattr(PulumiStack, "check_settings", lambda self: StackSettings.parse(edited))
    monkeypatch.setattr(PulumiStack, "down", lambda self, *, volumes: called.append("down"))
    monkeypatch.setattr("ops.toolchain.provision.ensure", lambda *_, **__: None)
    monkeypatch.setattr("ops.backup.workbench.remove_all", lambda _: None)
    monkeypatch.setattr(ownership, "docker", Docker().command)
    with pytest.raises(SystemExit) as over:
        main(["down", "--volumes", "--yes"])
    assert over.value.code == code
    assert called == ([] if code else ["down"])
    refused = "stack 'dev' still protects postgres; run `groundwork up --stack dev` first"
    assert (refused in capfd.readouterr().err) is bool(code)


@pytest.mark.parametrize(("target", "left"), [("docker", False), ("aws", True)])
def test_pending_operations_of_a_killed_run_are_cleared_only_on_docker(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, target: str, left: bool
) -> None:
    """Only on Docker can the resources be found again, by their labels."""
    latest = {"pending_operations": [{"type": "creating"}]}
    stack.state_file.write_text(json.dumps({"checkpoint": {"latest": latest}}))
    imported: list[str] = []

    def run(self: PulumiStack, *arguments: str, stdin: str | None = None, **_: Any) -> str:
        imported.extend([stdin] if stdin else [])
        return json.dumps({"deployment": latest})

    monkeypatch.setattr(PulumiStack, "_run", run)
    values = {"groundwork:target": target} | (
        {"groundwork:awsRegion": "eu-central-1"} if target == "aws" else {}
    )
    monkeypatch.setattr(PulumiStack, "check_settings", lambda self: StackSettings.parse(values))
    assert down(stack, Docker(), monkeypatch) == []
    assert imported == ([] if left else [json.dumps({"deployment": {}})])


def test_a_stack_that_another_process_is_changing_is_not_touched(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stack.checkout.backend_dir / ".pulumi" / "locks" / "organization" / "groundwork" / "dev"
    folder.mkdir(parents=True)
    (folder / "lock.json").write_text(json.dumps({"pid": 1, "hostname": "another.machine"}))
    with pytest.raises(OpsError, match=r"is being changed by process 1 on another\.machine") as refused:
        down(stack, Docker(), monkeypatch)
    assert refused.value.exit_code == Exit.LOCKED
    # The way out, if that process is gone: a rebuilt dev container has another name.
    said = str(refused.value)
    assert str(folder / "lock.json") in said
    assert 'shellenv --stack dev)" && pulumi cancel --yes`' in said


def test_a_stack_that_runs_is_not_reported_as_down_if_its_state_is_lost(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stack.state_file.unlink()
    row = f"p1\tpostgres\t{ensure_id(stack.checkout)}\t\tann\t/home/ann\n"
    monkeypatch.setattr(Checkout, "here", lambda: stack.checkout)
    monkeypatch.setattr(ownership, "docker", lambda kind, *_, **__: row if kind == "container" else "")
    with pytest.raises(SystemExit) as over:
        main(["down"])
    assert over.value.code == Exit.REFUSED
    said = capfd.readouterr()
    assert "the state of stack 'dev' is lost" in said.err
    assert said.out == ""
