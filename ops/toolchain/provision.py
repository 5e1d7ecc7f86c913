"""Puts the whole toolchain in place, cheapest source first, and says what was taken.

What can fail early goes first: nobody should build for minutes to learn that there is no Docker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from infra.spec.world import World
from ops.toolchain import (
    access_wheels,
    base_image,
    docker_engine,
    docker_provider,
    encryption_salt,
    passphrase,
    pulumi_cli,
    versions,
)
from ops.toolchain.inventory import Source, Tool, Toolchain
from ops.toolchain.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

COLD_START = (
    "Putting the toolchain in place: a cold start with everything to build takes up to 12 minutes on 2 cores, "
    "once; an interrupted one resumes."
)


def ensure(world: World, console: Console | None = None, *, docker: bool = True) -> Toolchain:
    """Find, download or build every part of the toolchain; fast (under 150 ms) where all is in place.

    `docker=False` leaves the Docker engine, its provider, base image and wheelhouse out (a stack on AWS).
    Progress goes to `console` (stderr by default). Raises OpsError: one line that says what is missing and
    how to get it.
    """
    progress = Progress(console)
    tools: list[Tool] = []

    @contextmanager
    def timed() -> Iterator[None]:
        started, before = time.monotonic(), len(tools)
        yield
        seconds = time.monotonic() - started
        tools[before:] = [
            tool if tool.source in (Source.FOUND, Source.CACHED) else replace(tool, seconds=seconds)
            for tool in tools[before:]
        ]

    passphrase.ensure(world)
    world.backend_dir.mkdir(exist_ok=True, mode=0o700)
    encryption_salt.ensure(world)
    if pulumi_cli.installed(world) is None or (docker and docker_provider.installed(world) is None):
        progress.say(COLD_START)
    if docker:
        with timed():
            engine, tool = docker_engine.ensure(world, progress)
            tools.append(tool)
        with timed():
            tools.append(base_image.ensure(world, engine, progress))
        with timed():
            tools.append(access_wheels.ensure(world, engine, progress))
    with timed():
        cli = pulumi_cli.ensure(world, progress)
        tools += [cli.tool, cli.language_host]
    if docker:
        with timed():
            tools.append(docker_provider.ensure(world, cli, progress))
    return Toolchain(cli.command, versions.pulumi_home(world), tuple(tools))


def inspect(world: World) -> tuple[Tool, ...]:
    """What is in place, without changing anything; a part that is not has the source MISSING."""
    engine = docker_engine.answering()
    cli = pulumi_cli.installed(world)
    if isinstance(engine, str):
        found = [_missing(docker_engine.NAME, engine), _missing(base_image.NAME, "no engine to ask")]
        found.append(_missing(access_wheels.NAME, "no engine to ask for its architecture"))
    else:
        found = [
            engine.tool(Source.FOUND),
            base_image.installed() or _missing(base_image.NAME, base_image.IMAGE),
            access_wheels.installed(world, engine) or _missing(access_wheels.NAME, engine.arch),
        ]
    if cli is None:
        found.append(_missing(pulumi_cli.NAME, f"wanted: {versions.PULUMI} or newer"))
    else:
        found += [cli.tool, cli.language_host]
    provider = docker_provider.installed(world)
    found.append(provider or _missing(docker_provider.NAME, f"wanted: {versions.DOCKER_PROVIDER}"))
    return tuple(found)


def _missing(name: str, why: str) -> Tool:
    return Tool(name, "", Source.MISSING, why)
