"""Pulumi's Docker plugin in PULUMI_HOME: the official release, or a build of groundwork's own Go module.

Does not use the Docker engine.
"""

from __future__ import annotations

from collections.abc import Callable

from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import disk, golang, plugins, releases, store, versions
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


def installed(checkout: Checkout) -> Tool | None:
    """Return the plugin in PULUMI_HOME, or None if it is absent or its installation was interrupted."""
    if not plugins.is_installed(checkout, "docker", versions.DOCKER_PROVIDER):
        return None
    return Tool(NAME, versions.DOCKER_PROVIDER, ToolSource.CACHED, _path(checkout))


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
        return Tool(NAME, versions.DOCKER_PROVIDER, source, _path(checkout))


def _path(checkout: Checkout) -> str:
    return str(plugins.executable(checkout, "docker", versions.DOCKER_PROVIDER))


def _download(checkout: Checkout, cli: Callable[[], Cli], progress: Progress) -> bool:
    if not releases_are_reached():
        return False
    release = releases.plugin("docker", versions.DOCKER_PROVIDER, versions.platform_name())
    known = releases.checksum(release)
    if known is None:
        progress.say(f"{NAME}: the checksum of {release.archive} is not known; building it instead")
        return False
    disk.require(versions.pulumi_home(checkout), "the Docker provider", plugins.PLUGIN_GIB)
    command = cli()
    try:
        with progress.step(f"{NAME} {versions.DOCKER_PROVIDER}", "downloading the official release") as step:
            plugins.install(checkout, command, "docker", versions.DOCKER_PROVIDER, "--checksum", known)
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
    disk.require(drafts, "the Docker provider", 2 * plugins.PLUGIN_GIB)
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
            plugins.install(
                checkout, cli(), "docker", versions.DOCKER_PROVIDER, "-f", str(built), timeout_seconds=60
            )
            step.doing = "built from Go modules"
        except CommandFailed as error:
            raise OpsError(
                f"cannot install the Docker provider after its build: {error}; run the same command again"
            ) from error
        finally:
            store.discard(drafts)
    return ToolSource.BUILT
