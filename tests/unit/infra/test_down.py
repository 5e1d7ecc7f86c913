"""`down` of a stack whose containers are not those that its state knows: after a kill, or by somebody's hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.docker import leftovers
from infra.settings import StackSettings
from infra.spec.world import World
from ops import pulumi_stack
from ops.errors import Exit, OpsError
from ops.pulumi_stack import PulumiStack

ROOT = Path(__file__).parents[3]
CONTAINER, VOLUME = "docker:index/container:Container", "docker:index/volume:Volume"


class Docker:
    """The engine's containers, id by name; what was removed."""

    def __init__(self, **containers: str) -> None:
        self.containers = containers

    def command(self, *arguments: str, **_: Any) -> str:
        if arguments[:2] == ("container", "rm"):
            self.containers = {n: i for n, i in self.containers.items() if i != arguments[-1]}
        if arguments[:2] == ("container", "ls"):
            return "".join(f"{identity} {name}\n" for name, identity in self.containers.items())
        return ""

    def inspect(self, kind: str, *ids: str) -> list[dict[str, Any]]:
        return [{} for identity in ids if identity in self.containers.values()]


@pytest.fixture
def stack(tmp_path: Path) -> PulumiStack:
    """A stack in Docker, with two containers and a volume in its state."""
    found = PulumiStack(World(ROOT, "1a2b3c", tmp_path / "state", tmp_path / "cache"), "dev")
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
    """Take it down; what Pulumi was called for."""
    called: list[str] = []

    def stream(self: PulumiStack, command: str, *arguments: str, **_: Any) -> int:
        called.append(command)
        return 0

    monkeypatch.setattr(leftovers, "docker", docker.command)
    monkeypatch.setattr(pulumi_stack, "inspect", docker.inspect)
    monkeypatch.setattr(PulumiStack, "_stream", stream)
    stack.down(volumes=False)
    return called


def test_where_all_is_as_the_state_says_nothing_is_refreshed(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = Docker(postgres="p1", redis="r1")
    assert down(stack, docker, monkeypatch) == ["destroy"]
    assert docker.containers == {"postgres": "p1", "redis": "r1"}


def test_a_container_that_is_gone_is_forgotten_first(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider stops a container before it removes it, and takes one that is not there for an error."""
    assert down(stack, Docker(redis="r1"), monkeypatch) == ["refresh", "destroy"]


def test_a_container_that_the_state_never_saw_is_removed(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    docker = Docker(postgres="p1", redis="r1", access="a2")
    assert down(stack, docker, monkeypatch) == ["destroy"]
    assert docker.containers == {"postgres": "p1", "redis": "r1"}
    assert "removed access, which an interrupted run had left behind" in capfd.readouterr().err


@pytest.mark.parametrize(("target", "left"), [("docker", False), ("aws", True)])
def test_what_a_killed_run_began_is_forgotten_only_where_it_is_found_again(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, target: str, left: bool
) -> None:
    """By labels, that is, which only Docker is asked for."""
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


def test_a_stack_that_somebody_is_changing_is_left_alone(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stack.world.backend_dir / ".pulumi" / "locks" / "organization" / "groundwork" / "dev"
    folder.mkdir(parents=True)
    (folder / "lock.json").write_text(json.dumps({"pid": 1, "hostname": "another.machine"}))
    with pytest.raises(OpsError, match=r"is being changed by process 1 on another\.machine") as refused:
        down(stack, Docker(), monkeypatch)
    assert refused.value.exit_code == Exit.LOCKED
