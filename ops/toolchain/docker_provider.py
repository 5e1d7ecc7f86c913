"""Pulumi's Docker plugin in PULUMI_HOME: the official release, or a build of groundwork's own Go module.

Does not use the Docker engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import disk, golang, process, store, versions
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress
from ops.toolchain.pulumi_cli import Cli, releases_are_reached

NAME = "Docker provider"
BUILD = golang.Build(
    module=versions.SOURCES / "docker_provider",
    package=".",
    ldflags="-s -w",
    whole=golang.Whole(packages=940, seconds=90),
    tags=("no_compose",),
)
PLUGIN_GIB = 0.5
RELEASE_DEADLINE_SECONDS = 180


def installed(checkout: Checkout) -> Tool | None:
    """Return the plugin in PULUMI_HOME, or None if it is absent or its installation was interrupted."""
    plugin = _plugin(checkout)
    # Pulumi keeps this file next to a plugin until it is completely installed.
    partial = plugin.parent.with_name(plugin.parent.name + ".partial")
    if not plugin.is_file() or partial.exists():
        return None
    return Tool(NAME, versions.DOCKER_PROVIDER, ToolSource.CACHED, str(plugin))


def ensure(
    checkout: Checkout,
    cli: Callable[[], Cli],
    progress: Progress,
    await_turn: Callable[[], None] = lambda: None,
) -> Tool:
    """Install the plugin if necessary. Raises OpsError.

    `cli` waits for the CLI and returns it. `await_turn` returns when this build may start to compile. Two concurrent
    builds would each compile the packages that they share.
    """
    if (tool := installed(checkout)) is not None:
        return tool
    with store.exclusive(
        checkout.cache_dir,
        "docker-provider",
        lambda who: progress.say(f"{NAME}: waiting for {who}, which installs it"),
    ):
        if (tool := installed(checkout)) is not None:
            return tool
        source = (
            ToolSource.DOWNLOADED
            if _download(checkout, cli, progress)
            else _build(checkout, cli, progress, await_turn)
        )
        return Tool(NAME, versions.DOCKER_PROVIDER, source, str(_plugin(checkout)))


def _plugin(checkout: Checkout) -> Path:
    name = f"resource-docker-v{versions.DOCKER_PROVIDER}"
    return versions.pulumi_home(checkout) / "plugins" / name / "pulumi-resource-docker"


def _install(checkout: Checkout, cli: Cli, *arguments: str, timeout_seconds: float) -> None:
    """Install the plugin with the CLI, replacing what an interrupted run has left."""
    home = versions.pulumi_home(checkout)
    home.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    with disk.naming_a_full_disk(home, "the Docker provider", PLUGIN_GIB):
        process.run(
            [str(cli.command), "plugin", "install", "resource", "docker", f"v{versions.DOCKER_PROVIDER}"]
            + ["--reinstall", *arguments],
            env=env,
            timeout_seconds=timeout_seconds,
        )


def _download(checkout: Checkout, cli: Callable[[], Cli], progress: Progress) -> bool:
    if not releases_are_reached():
        return False
    disk.require(versions.pulumi_home(checkout), "the Docker provider", PLUGIN_GIB)
    command = cli()
    try:
        with progress.step(f"{NAME} {versions.DOCKER_PROVIDER}", "downloading the official release") as step:
            _install(checkout, command, timeout_seconds=RELEASE_DEADLINE_SECONDS)
            step.doing = "downloaded the official release"
    except CommandFailed as error:
        progress.say(f"{NAME}: no official release ({error}); building it instead")
        return False
    return True


def _build(
    checkout: Checkout, cli: Callable[[], Cli], progress: Progress, await_turn: Callable[[], None]
) -> ToolSource:
    go = golang.find(checkout, progress)
    # A temporary folder: the CLI copies the plugin to PULUMI_HOME.
    drafts = checkout.cache_dir / "docker-provider"
    disk.require(drafts, "the Docker provider", 2 * PLUGIN_GIB)
    with progress.step(f"{NAME} {versions.DOCKER_PROVIDER}", "preparing the build") as step:
        try:
            store.discard(drafts)
            drafts.mkdir(parents=True)
            built = drafts / "pulumi-resource-docker"
            golang.fetch(go, BUILD, drafts, step)
            step.now("waiting for the packages it shares with the CLI")
            await_turn()
            golang.compile(go, BUILD, built, step)
            step.now("waiting for the CLI, which installs it")
            _install(checkout, cli(), "-f", str(built), timeout_seconds=60)
            step.doing = "built from Go modules"
        except CommandFailed as error:
            raise OpsError(
                f"cannot install the Docker provider after its build: {error}; run the same command again"
            ) from error
        finally:
            store.discard(drafts)
    return ToolSource.BUILT
