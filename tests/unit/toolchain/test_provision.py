"""The order in which the toolchain is put in place, and how little it does where it is."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from infra.spec.world import World
from ops.toolchain import access_wheels, base_image, docker_engine, docker_provider, provision, pulumi_cli
from ops.toolchain.docker_engine import Engine, NoEngineError
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.pulumi_cli import Cli


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts in the order they were asked for; each is in place."""
    asked: list[str] = []

    def part(name: str, answer: object) -> object:
        def ensure(*_: object) -> object:
            asked.append(name)
            return answer

        return ensure

    def tool(name: str) -> Tool:
        return Tool(name, "1", Source.CACHED, "/")

    cli = Cli(Path("/pulumi"), tool("cli"), tool("host"))
    monkeypatch.setattr(docker_engine, "ensure", part("engine", (Engine("27", "amd64"), tool("engine"))))
    monkeypatch.setattr(base_image, "ensure", part("image", tool("image")))
    monkeypatch.setattr(access_wheels, "ensure", part("wheels", tool("wheels")))
    monkeypatch.setattr(pulumi_cli, "installed", lambda _world: cli)
    monkeypatch.setattr(pulumi_cli, "ensure", part("cli", cli))
    monkeypatch.setattr(docker_provider, "installed", lambda _world: tool("provider"))
    monkeypatch.setattr(docker_provider, "ensure", part("provider", tool("provider")))
    return asked


def console() -> Console:
    return Console(file=StringIO())


def test_docker_comes_before_anything_that_takes_minutes(world: World, order: list[str]) -> None:
    provision.ensure(world, console())
    assert order == ["engine", "image", "wheels", "cli", "provider"]


def test_where_there_can_be_no_docker_nothing_is_built(
    world: World, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise NoEngineError("no Docker engine")

    monkeypatch.setattr(docker_engine, "ensure", refuse)
    with pytest.raises(NoEngineError):
        provision.ensure(world, console())
    assert order == []


def test_a_stack_on_aws_needs_no_docker(world: World, order: list[str]) -> None:
    provision.ensure(world, console(), docker=False)
    assert order == ["cli"]


def test_where_all_is_in_place_nothing_is_said(world: World, order: list[str]) -> None:
    said = StringIO()
    provision.ensure(world, Console(file=said))
    assert said.getvalue() == ""


def test_what_has_to_be_built_is_announced_with_its_time(
    world: World, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi_cli, "installed", lambda _world: None)
    said = StringIO()
    provision.ensure(world, Console(file=said, width=200))
    assert "takes up to 12 minutes on 2 cores" in said.getvalue()


def test_inspecting_changes_nothing_and_names_what_is_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "answering", lambda: "no engine answers")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    tools = provision.inspect(world)
    assert {tool.source for tool in tools} == {Source.MISSING}
    assert not world.cache_dir.exists()
    assert not world.state_dir.exists()
