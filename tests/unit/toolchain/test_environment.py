"""What Pulumi is run with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.spec.world import World
from ops.errors import Exit, OpsError
from ops.toolchain import inventory, pulumi_environment
from ops.toolchain.inventory import Choice

Program = Callable[[Path, str], Path]


@pytest.fixture
def pulumi(world: World, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A remembered CLI, and a home without a Docker context."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    command = program(world.cache_dir / "bin" / "pulumi", "")
    inventory.remember(world, Choice.of(command, "3.259.0"))
    return command


def test_before_the_toolchain_is_there_the_line_says_how_to_get_it(world: World) -> None:
    with pytest.raises(OpsError, match="run `groundwork toolchain` first") as refusal:
        pulumi_environment.variables(world)
    assert refusal.value.exit_code is Exit.PENDING


def test_the_checkouts_python_comes_first_then_the_cli(
    world: World, pulumi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"/usr/bin:{pulumi.parent}:/bin")
    folders = pulumi_environment.variables(world)["PATH"].split(os.pathsep)
    assert folders == [str(world.root / ".venv" / "bin"), str(pulumi.parent), "/usr/bin", "/bin"]


@pytest.mark.usefixtures("pulumi")
def test_applied_twice_it_stays_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pulumi_environment.variables(world)
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert pulumi_environment.variables(world) == first


@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize("name", ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_STACK"])
def test_what_would_override_the_checkouts_own_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "of the user's")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    env = pulumi_environment.environment(world)
    assert name not in env
    assert env["HTTPS_PROXY"] == "kept"


@pytest.mark.usefixtures("pulumi")
def test_backend_and_passphrase_are_the_checkouts_own(world: World) -> None:
    env = pulumi_environment.variables(world)
    assert env["PULUMI_BACKEND_URL"] == f"file://{world.backend_dir}?metadata=skip"
    assert env["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(world.passphrase_file)


@pytest.mark.usefixtures("pulumi")
def test_the_docker_commands_context_holds_for_pulumi_too(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".docker"
    meta = folder / "contexts" / "meta" / "0123"
    meta.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"currentContext": "colima"}))
    socket = "unix:///home/me/.colima/docker.sock"
    (meta / "meta.json").write_text(json.dumps({"Name": "colima", "Endpoints": {"docker": {"Host": socket}}}))
    assert pulumi_environment.variables(world)["DOCKER_HOST"] == socket


@pytest.mark.usefixtures("pulumi")
@pytest.mark.parametrize("content", ["{}", '{"currentContext": "default"}', "not json"])
def test_without_a_context_docker_host_is_left_alone(world: World, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "home" / ".docker"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    assert "DOCKER_HOST" not in pulumi_environment.variables(world)
