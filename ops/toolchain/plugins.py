"""Pulumi's resource plugins in PULUMI_HOME, and the AWS plugin, which only stacks on AWS need."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

from infra.spec.checkout import Checkout
from ops.toolchain import disk, process, releases, store, versions
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress
from ops.toolchain.pulumi_cli import Cli, releases_are_reached

PLUGIN_GIB = 0.5
AWS_PLUGIN_GIB = 2.0
RELEASE_DEADLINE_SECONDS = 180
AWS_RELEASE_DEADLINE_SECONDS = 900


def executable(checkout: Checkout, name: str, version: str) -> Path:
    """Return the path of an installed plugin."""
    return (
        versions.pulumi_home(checkout) / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
    )


def is_installed(checkout: Checkout, name: str, version: str) -> bool:
    """Return whether the plugin is completely installed."""
    plugin = executable(checkout, name, version)
    # Pulumi keeps this file next to a plugin until it is completely installed.
    partial = plugin.parent.with_name(plugin.parent.name + ".partial")
    return plugin.is_file() and not partial.exists()


def install(
    checkout: Checkout,
    cli: Cli,
    name: str,
    version: str,
    *arguments: str,
    timeout_seconds: float = RELEASE_DEADLINE_SECONDS,
    needs_gib: float = PLUGIN_GIB,
) -> None:
    """Install a plugin with the CLI, and replace what an interrupted run left. Raises CommandFailed."""
    home = versions.pulumi_home(checkout)
    home.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    with disk.naming_a_full_disk(home, f"the {name} plugin", needs_gib):
        process.run(
            [
                str(cli.command),
                "plugin",
                "install",
                "resource",
                name,
                f"v{version}",
                "--reinstall",
                *arguments,
            ],
            env=env,
            timeout_seconds=timeout_seconds,
        )


def ensure_aws(checkout: Checkout, cli: Cli, progress: Progress) -> None:
    """Install the AWS plugin that pulumi_aws needs, if its checksum is known.

    Otherwise Pulumi's engine downloads it, without a check, when a resource first needs it.
    """
    version = importlib.metadata.version("pulumi-aws")
    if shutil.which("pulumi-resource-aws") or is_installed(checkout, "aws", version):
        return
    with store.exclusive(
        checkout.cache_dir,
        "aws-plugin",
        lambda who: progress.say(f"AWS plugin: waiting for {who}, which installs it"),
    ):
        if is_installed(checkout, "aws", version):
            return
        known = None
        if releases_are_reached():
            known = releases.checksum(releases.plugin("aws", version, versions.platform_name()))
        if known is None:
            progress.say("AWS plugin: its checksum is not known; Pulumi downloads it without a check")
            return
        disk.require(versions.pulumi_home(checkout), "the AWS plugin", AWS_PLUGIN_GIB)
        with progress.step(f"AWS plugin {version}", "downloading the official release") as step:
            try:
                install(
                    checkout, cli, "aws", version, "--checksum", known,
                    timeout_seconds=AWS_RELEASE_DEADLINE_SECONDS, needs_gib=AWS_PLUGIN_GIB,
                )  # fmt: skip
            except CommandFailed as error:
                progress.say(f"AWS plugin: cannot install the official release ({error})")
            else:
                step.doing = "downloaded the official release"
