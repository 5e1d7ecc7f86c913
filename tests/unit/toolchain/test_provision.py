"""The order in which the toolchain is installed, and how little an installed one costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from infra.spec.checkout import Checkout
from ops.toolchain import (
    access_wheels,
    base_image,
    docker_engine,
    docker_provider,
    process,
    provision,
    pulumi_cli,
    versions,
)
from ops.toolchain.docker_engine import Engine, NoEngineError
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.progress import Progress
from ops.toolchain.pulumi_cli import Cli


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts in the order in which they were requested. Each one is installed."""
    asked: list[str] = []

    def part(name: str, answer: object) -> object:
        def ensure(*_: object) -> object:
            asked.append(name)
            return answer

        return ensure

    def tool(name: str) -> Tool:
        return Tool(name, "1", ToolSource.CACHED, "/")

    cli = Cli(Path("/pulumi"), tool("cli"), tool("host"))
    monkeypatch.setattr(docker_engine, "find", lambda: Engine("27", "amd64"))
    monkeypatch.setattr(docker_engine, "ensure", part("engine", (Engine("27", "amd64"), tool("engine"))))
    monkeypatch.setattr(base_image, "ensure", part("image", tool("image")))
    monkeypatch.setattr(access_wheels, "ensure", part("wheels", tool("wheels")))
    monkeypatch.setattr(pulumi_cli, "installed", lambda _checkout: cli)
    monkeypatch.setattr(pulumi_cli, "ensure", part("cli", cli))
    monkeypatch.setattr(docker_provider, "installed", lambda _checkout: tool("provider"))
    monkeypatch.setattr(docker_provider, "ensure", part("provider", tool("provider")))
    return asked


def console() -> Console:
    return Console(file=StringIO())


def test_the_engine_is_ready_before_the_parts_that_need_it(checkout: Checkout, order: list[str]) -> None:
    tools = provision.ensure(checkout, console()).tools
    assert order.index("engine") < min(order.index("image"), order.index("wheels"))
    assert [tool.name for tool in tools] == ["engine", "image", "wheels", "cli", "host", "provider"]


def test_nothing_is_built_if_docker_is_impossible(
    checkout: Checkout, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise NoEngineError("no Docker engine")

    monkeypatch.setattr(pulumi_cli, "installed", lambda _checkout: None)
    monkeypatch.setattr(docker_engine, "find", refuse)
    with pytest.raises(NoEngineError):
        provision.ensure(checkout, console())
    assert order == []


def test_the_engine_starts_while_the_cli_is_built(
    checkout: Checkout, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other to start, so the test would fail if they ran one after the other."""
    both = threading.Barrier(2, timeout=60)
    ready = docker_engine.ensure

    def meet(*_: object) -> object:
        both.wait()
        return ready(checkout, Progress(console()))

    def build(*_: object) -> object:
        both.wait()
        return pulumi_cli.installed(checkout)

    monkeypatch.setattr(docker_engine, "ensure", meet)
    monkeypatch.setattr(pulumi_cli, "ensure", build)
    provision.ensure(checkout, console())


def test_an_engine_that_does_not_start_stops_the_build(
    checkout: Checkout, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_building = threading.Event()

    def refuse(*_: object) -> object:
        assert is_building.wait(60)
        raise NoEngineError("dockerd ended with exit code 1")

    def build(*_: object) -> object:
        process.run(["sh", "-c", "echo begun; exec sleep 600"], on_line=lambda _line: is_building.set())
        raise AssertionError

    monkeypatch.setattr(docker_engine, "ensure", refuse)
    monkeypatch.setattr(pulumi_cli, "ensure", build)
    started = time.monotonic()
    with pytest.raises(NoEngineError, match="exit code 1"):
        provision.ensure(checkout, console())
    assert time.monotonic() - started < 300


def test_the_provider_is_compiled_after_the_packages_that_it_shares(
    checkout: Checkout, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = pulumi_cli.installed(checkout)

    def build(_checkout: object, _progress: object, on_linking: Callable[[], None]) -> object:
        order.append("packages")
        on_linking()
        assert compiled.wait(60)
        return cli

    def ensure(
        _checkout: object, the_cli: Callable[[], object], _progress: object, turn: Callable[[], None]
    ) -> Tool:
        turn()
        order.append("provider's packages")
        compiled.set()
        assert the_cli() is not None
        return Tool("provider", "1", ToolSource.BUILT, "/")

    compiled = threading.Event()
    monkeypatch.setattr(pulumi_cli, "ensure", build)
    monkeypatch.setattr(docker_provider, "ensure", ensure)
    provision.ensure(checkout, console())
    assert order.index("packages") < order.index("provider's packages")


def test_a_stack_on_aws_needs_no_docker(checkout: Checkout, order: list[str]) -> None:
    provision.ensure(checkout, console(), docker=False)
    assert order == ["cli"]


def test_an_installed_toolchain_prints_nothing(checkout: Checkout, order: list[str]) -> None:
    said = StringIO()
    provision.ensure(checkout, Console(file=said))
    assert said.getvalue() == ""


def test_the_folder_of_pulumis_logs_is_replaced_by_a_file(checkout: Checkout, order: list[str]) -> None:
    """Then Pulumi cannot create its folder, and writes no logs."""
    logs = versions.pulumi_home(checkout) / "logs"
    logs.mkdir(parents=True)
    (logs / "pulumi-1.log").touch()
    for _ in range(2):
        provision.ensure(checkout, console())
        assert logs.read_bytes() == b""


def test_builds_are_announced_with_their_time(
    checkout: Checkout, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi_cli, "installed", lambda _checkout: None)
    said = StringIO()
    provision.ensure(checkout, Console(file=said, width=200))
    assert "takes about 9 minutes on 2 cores" in said.getvalue()


def test_an_inspection_changes_nothing_and_names_missing_parts(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "answering", lambda: "no engine answers")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    tools = provision.inspect(checkout)
    assert {tool.source for tool in tools} == {ToolSource.MISSING}
    assert not checkout.cache_dir.exists()
    assert not checkout.state_dir.exists()
