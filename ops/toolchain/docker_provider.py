"""Pulumi's plugin for Docker: the official one, or one built from our own Go module, in PULUMI_HOME.

Asks nothing of the Docker engine.
"""

from __future__ import annotations

import os
from pathlib import Path

from infra.spec.world import World
from ops.errors import OpsError
from ops.toolchain import disk, golang, process, store, versions
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress
from ops.toolchain.pulumi_cli import Cli, releases_are_reached

NAME = "Docker provider"
BUILD = golang.Whole(packages=1450, seconds=170)
PLUGIN_GIB = 0.5
RELEASE_DEADLINE_SECONDS = 180


def installed(world: World) -> Tool | None:
    """The plugin in PULUMI_HOME, None where it is absent or its installation was cut off."""
    plugin = _plugin(world)
    # Pulumi puts this beside a plugin until it is whole.
    partial = plugin.parent.with_name(plugin.parent.name + ".partial")
    if not plugin.is_file() or partial.exists():
        return None
    return Tool(NAME, versions.DOCKER_PROVIDER, Source.CACHED, str(plugin))


def ensure(world: World, cli: Cli, progress: Progress) -> Tool:
    """Put the plugin in place. Raises OpsError."""
    if (tool := installed(world)) is not None:
        return tool
    with store.exclusive(
        world.cache_dir,
        "docker-provider",
        lambda who: progress.say(f"{NAME}: waiting for {who}, which makes it"),
    ):
        if (tool := installed(world)) is not None:
            return tool
        source = Source.DOWNLOADED if _download(world, cli, progress) else _build(world, cli, progress)
        return Tool(NAME, versions.DOCKER_PROVIDER, source, str(_plugin(world)))


def _plugin(world: World) -> Path:
    name = f"resource-docker-v{versions.DOCKER_PROVIDER}"
    return versions.pulumi_home(world) / "plugins" / name / "pulumi-resource-docker"


def _install(world: World, cli: Cli, *arguments: str, timeout_seconds: float) -> None:
    """Have the CLI put the plugin where it looks for it; also over what an interrupted run left."""
    home = versions.pulumi_home(world)
    home.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    with disk.naming_a_full_disk(home, "the Docker provider", PLUGIN_GIB):
        process.run(
            [str(cli.command), "plugin", "install", "resource", "docker", f"v{versions.DOCKER_PROVIDER}"]
            + ["--reinstall", *arguments],
            env=env,
            timeout_seconds=timeout_seconds,
        )


def _download(world: World, cli: Cli, progress: Progress) -> bool:
    if not releases_are_reached():
        return False
    disk.require(versions.pulumi_home(world), "the Docker provider", PLUGIN_GIB)
    try:
        with progress.step(f"{NAME} {versions.DOCKER_PROVIDER}", "downloading the official release") as step:
            _install(world, cli, timeout_seconds=RELEASE_DEADLINE_SECONDS)
            step.doing = "downloaded the official release"
    except CommandFailed as error:
        progress.say(f"{NAME}: no official release ({error}); building it instead")
        return False
    return True


def _build(world: World, cli: Cli, progress: Progress) -> Source:
    go = golang.find(world, progress)
    # Only on its way: the CLI copies it into PULUMI_HOME.
    drafts = world.cache_dir / "docker-provider"
    disk.require(drafts, "the Docker provider", 2 * PLUGIN_GIB)
    with progress.step(f"{NAME} {versions.DOCKER_PROVIDER}", "preparing the build") as step:
        try:
            store.discard(drafts)
            drafts.mkdir(parents=True)
            built = drafts / "pulumi-resource-docker"
            golang.build(
                go,
                versions.SOURCES / "docker_provider",
                ".",
                built,
                tags=("osusergo", "grpcnotrace", "no_compose"),
                ldflags="-s -w",
                step=step,
                whole=BUILD,
            )
            _install(world, cli, "-f", str(built), timeout_seconds=60)
        except CommandFailed as error:
            raise OpsError(f"the Docker provider was built, and cannot be installed: {error}") from error
        finally:
            store.discard(drafts)
    return Source.BUILT
