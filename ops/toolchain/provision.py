"""Install the whole toolchain from the cheapest sources, and report the source of each part.

The parts run in parallel: while Go compiles the CLI, the engine is installed, the base image and the wheels are
downloaded, and the provider's modules are fetched. What can fail early is checked first, and a failed part stops the
others, so that e.g. a missing Docker is not reported after minutes of building.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from infra.images.context import BASE_IMAGE
from infra.spec.checkout import Checkout
from infra.state_folder import make_private
from ops.toolchain import (
    access_wheels,
    base_image,
    docker_engine,
    docker_provider,
    encryption_salt,
    passphrase,
    plugins,
    process,
    pulumi_cli,
    store,
    versions,
)
from ops.toolchain.docker_engine import Engine
from ops.toolchain.inventory import Tool, Toolchain, ToolSource
from ops.toolchain.parts import Parts
from ops.toolchain.progress import Progress
from ops.toolchain.pulumi_cli import Cli

if TYPE_CHECKING:
    from rich.console import Console

COLD_START = (
    "Installing the toolchain: a cold start that has to build everything takes about 9 minutes on 2 cores, once; "
    "an interrupted one resumes."
)


def ensure(checkout: Checkout, console: Console | None = None, *, docker: bool = True) -> Toolchain:
    """Find, download or build every part of the toolchain. Takes about 50 ms if all are installed.

    `docker=False` leaves out the Docker engine, its provider, base image and wheelhouse (for a stack on AWS). Progress
    goes to `console` (stderr by default). Raise OpsError with a line that says what is missing and how to get it.
    """
    progress = Progress(console)
    passphrase.ensure(checkout)
    make_private(checkout, checkout.backend_dir)
    encryption_salt.ensure(checkout)
    if pulumi_cli.installed(checkout) is None or (docker and docker_provider.installed(checkout) is None):
        if docker:
            # Raises before the build is announced if there can be no engine.
            docker_engine.find()
        progress.say(COLD_START)
    is_compiled = threading.Event()

    def make_engine() -> tuple[Engine, Tool]:
        started = time.monotonic()
        found, tool = docker_engine.ensure(checkout, progress)
        return found, _since(started, tool)

    def make_image() -> Tool:
        found, _ = engine.result()
        started = time.monotonic()
        return _since(started, base_image.ensure(checkout, found, progress))

    def make_wheels() -> Tool:
        found, _ = engine.result()
        started = time.monotonic()
        return _since(started, access_wheels.ensure(checkout, found, progress))

    def make_cli() -> Cli:
        started = time.monotonic()
        try:
            made = pulumi_cli.ensure(checkout, progress, is_compiled.set)
        finally:
            is_compiled.set()
        return replace(
            made, tool=_since(started, made.tool), language_host=_since(started, made.language_host)
        )

    def await_compiled() -> None:
        while not is_compiled.is_set():
            process.pause(0.2)

    def make_provider() -> Tool:
        started = time.monotonic()
        made = docker_provider.ensure(checkout, cli.result, progress, await_compiled)
        return _since(started, made)

    tools: list[Tool] = []
    with Parts() as parts:
        if docker:
            engine = parts.start(make_engine)
            image = parts.start(make_image)
            wheels = parts.start(make_wheels)
        cli = parts.start(make_cli)
        if docker:
            provider = parts.start(make_provider)
    made = cli.result()
    _disable_pulumi_logs(versions.pulumi_home(checkout))
    if docker:
        tools += [engine.result()[1], image.result(), wheels.result()]
    tools += [made.tool, made.language_host]
    if docker:
        tools.append(provider.result())
    else:
        plugins.ensure_aws(checkout, made, progress)
    return Toolchain(made.command, versions.pulumi_home(checkout), tuple(tools))


def _disable_pulumi_logs(home: Path) -> None:
    """Delete Pulumi's automatic logs, and replace their folder by a file, so that Pulumi writes no more.

    Pulumi has no setting for this. The logs take a fifth of the CLI's CPU time and up to 500 MB.
    """
    logs = home / "logs"
    if logs.is_file():
        return
    store.discard(logs)
    home.mkdir(parents=True, exist_ok=True)
    logs.touch()


def _since(started: float, tool: Tool) -> Tool:
    """Return the tool with the time that it took, or unchanged if it was already installed."""
    if tool.source in (ToolSource.FOUND, ToolSource.CACHED):
        return tool
    return replace(tool, seconds=time.monotonic() - started)


def inspect(checkout: Checkout) -> tuple[Tool, ...]:
    """Report all parts without changing anything. A part that is not installed has the source MISSING."""
    engine = _engine_or_reason()
    cli = pulumi_cli.installed(checkout)
    if isinstance(engine, str):
        found = [_missing(docker_engine.NAME, engine), _missing(base_image.NAME, "needs a Docker engine")]
        found.append(_missing(access_wheels.NAME, "needs a Docker engine, to know the architecture"))
    else:
        found = [
            engine.tool(ToolSource.FOUND),
            base_image.installed(engine) or _missing(base_image.NAME, BASE_IMAGE),
            access_wheels.installed(checkout, engine) or _missing(access_wheels.NAME, engine.arch),
        ]
    if cli is None:
        found.append(_missing(pulumi_cli.NAME, f"wanted: {versions.PULUMI} or newer"))
    else:
        found += [cli.tool, cli.language_host]
    provider = docker_provider.installed(checkout)
    found.append(provider or _missing(docker_provider.NAME, f"wanted: {versions.DOCKER_PROVIDER}"))
    return tuple(found)


def _engine_or_reason() -> docker_engine.Engine | str:
    try:
        docker_engine.selected_endpoint()
        return docker_engine.answering()
    except docker_engine.NoEngineError as error:
        return str(error)


def _missing(name: str, why: str) -> Tool:
    return Tool(name, "", ToolSource.MISSING, why)
