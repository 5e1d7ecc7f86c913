"""The Pulumi CLI with its Python language host: from PATH, the official release, or built from Go modules.

The first available source is used, and the reason for falling back to a later one is printed.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.spec.checkout import Checkout
from ops.toolchain import disk, golang, inventory, process, releases, store, versions
from ops.toolchain.inventory import Choice, Tool, ToolSource
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress

NAME = "Pulumi CLI"
LANGUAGE_HOST = "pulumi-language-python"
_SDK = "github.com/pulumi/pulumi/sdk/v3"
BUILD = golang.Build(
    module=versions.SOURCES / "pulumi_cli",
    package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    ldflags=f"-s -w -X {_SDK}/go/common/version.Version=v{versions.PULUMI}",
    whole=golang.Whole(packages=1548, seconds=150),
)
RELEASE_GIB = 1.0
BUILD_GIB = 1.0
# A build is faster than a slower download.
RELEASE_DEADLINE_SECONDS = 300

_RELEASES = "https://get.pulumi.com/install.sh"
_PROBE_SECONDS = 4.0

# Installed next to the CLI, where the engine looks for a release's language host. The Python comes from the environment
# only, because all checkouts share the cache.
_LAUNCHER = """\
#!/bin/sh
# Starts the Python language host of the checkout whose environment this is (groundwork shellenv).
if [ -z "${PULUMI_PYTHON_CMD:-}" ]; then
    echo 'run eval "$(.venv/bin/groundwork shellenv)" in your checkout first' >&2
    exit 1
fi
exec "$PULUMI_PYTHON_CMD" -P -m ops.toolchain.language_host --exec "${0%/*}/pulumi-language-python-exec" "$@"
"""


@dataclass(frozen=True)
class Cli:
    """An installed CLI: its path, and the origin of the CLI and of its language host."""

    command: Path
    tool: Tool
    language_host: Tool


def installed(checkout: Checkout) -> Cli | None:
    """Return the CLI of this checkout if it is installed: the recorded one, on PATH, or in the cache."""
    if (choice := inventory.recall(checkout)) is not None:
        path = Path(choice.pulumi)
        source = ToolSource.CACHED if path.is_relative_to(checkout.cache_dir) else ToolSource.FOUND
        return _cli(path, choice.version, source)
    if (found := _on_path(checkout)) is not None:
        return found
    for folder in (versions.pulumi_release(checkout), versions.pulumi_build(checkout)):
        command = folder / "bin" / "pulumi"
        if command.is_file():
            return _cli(command, versions.PULUMI, ToolSource.CACHED)
    return None


def ensure(checkout: Checkout, progress: Progress, on_linking: Callable[[], None] = lambda: None) -> Cli:
    """Install the CLI if necessary, and record it for the checkout. Raises OpsError.

    `on_linking` is called when a build has compiled all packages, so that a build with the same packages may start.
    """
    cli = installed(checkout)
    if cli is None:
        with store.exclusive(
            checkout.cache_dir,
            "pulumi",
            lambda who: progress.say(f"{NAME}: waiting for {who}, which installs it"),
        ):
            # Another process may have installed it in the meantime.
            cli = (
                installed(checkout) or _download(checkout, progress) or _build(checkout, progress, on_linking)
            )
    inventory.remember(checkout, Choice.of(cli.command, cli.tool.version))
    return cli


@cache
def releases_are_reached() -> bool:
    """Return whether official releases can be downloaded from here. Checked once, within seconds.

    Runs in a thread, because name resolution has no time limit in a network that drops packets.
    """
    import http.client
    import urllib.request

    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(_RELEASES, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS) as response:
                answers.append(response.status == 200)
        except (OSError, http.client.HTTPException, ValueError):
            answers.append(False)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PROBE_SECONDS)
    return answers == [True]


def is_supported(version: str) -> bool:
    """Return whether a CLI of this version runs our programs: same major version, and not older than the SDK."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        return False
    theirs = tuple(int(part) for part in numbers.groups())
    ours = tuple(int(part) for part in versions.PULUMI.split("."))
    return theirs[0] == ours[0] and theirs >= ours


def _cli(command: Path, version: str, source: ToolSource) -> Cli:
    ours = (command.parent / LANGUAGE_HOST).is_file() and _is_ours(command.parent / LANGUAGE_HOST)
    host = command.parent / LANGUAGE_HOST
    return Cli(
        command=command,
        tool=Tool(NAME, version, source, str(command)),
        language_host=Tool(
            "Python language host", version if not ours else versions.PULUMI,
            ToolSource.FOUND if source is ToolSource.FOUND else source,
            str(host) if host.is_file() else shutil.which(LANGUAGE_HOST) or "",
        ),
    )  # fmt: skip


def _is_ours(host: Path) -> bool:
    with host.open("rb") as opened:
        return opened.read(2) == b"#!"


def _on_path(checkout: Checkout) -> Cli | None:
    # After `eval "$(groundwork shellenv)"` our own cache is on PATH too. Skip it to find the user's CLI.
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    theirs = os.pathsep.join(f for f in folders if not Path(f).is_relative_to(checkout.cache_dir))
    command = shutil.which("pulumi", path=theirs)
    if command is None:
        return None
    path = Path(command)
    # A CLI without its language host cannot run this program, and groundwork's must not replace a missing one there.
    if (
        not (path.resolve().parent / LANGUAGE_HOST).exists()
        and shutil.which(LANGUAGE_HOST, path=theirs) is None
    ):
        return None
    env = os.environ | {
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_HOME": str(versions.pulumi_home(checkout)),
    }
    try:
        version = process.run([command, "version"], env=env, timeout_seconds=20)[0].removeprefix("v")
    except (CommandFailed, IndexError):
        return None
    return _cli(path, version, ToolSource.FOUND) if is_supported(version) else None


def _download(checkout: Checkout, progress: Progress) -> Cli | None:
    """Download the official release. Return None if it is not available."""
    if not releases_are_reached():
        progress.say(f"{NAME}: official releases cannot be reached from here")
        return None
    release = releases.cli(versions.PULUMI, versions.platform_name())
    known = releases.checksum(release)
    if known is None:
        progress.say(f"{NAME}: the checksum of {release.archive} is not known; building it instead")
        return None
    target = versions.pulumi_release(checkout)
    what = "the Pulumi release"
    disk.require(target, what, RELEASE_GIB)
    try:
        with (
            progress.step(f"{NAME} {versions.PULUMI}", "downloading the official release") as step,
            disk.naming_a_full_disk(target, what, RELEASE_GIB),
            store.publishing(target) as draft,
        ):
            archive = draft / release.archive
            releases.download(release, known, archive, RELEASE_DEADLINE_SECONDS)
            _unpack(archive, draft / "bin")
            archive.unlink()
            step.doing = "downloaded the official release"
    except (CommandFailed, tarfile.TarError) as error:
        progress.say(f"{NAME}: cannot download the official release ({error}); building it instead")
        return None
    return _cli(target / "bin" / "pulumi", versions.PULUMI, ToolSource.DOWNLOADED)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the programs of a release, which its archive has in the folder `pulumi`."""
    with tarfile.open(archive) as opened:
        # Python before 3.11.4 has no filters. The archive's sum is known, so its names are trusted.
        if hasattr(tarfile, "data_filter"):
            opened.extractall(folder.parent, filter="data")
        else:
            opened.extractall(folder.parent)
    (folder.parent / "pulumi").rename(folder)


def _build(checkout: Checkout, progress: Progress, on_linking: Callable[[], None]) -> Cli:
    go = golang.find(checkout, progress)
    target = versions.pulumi_build(checkout)
    disk.require(target, "the Pulumi CLI", BUILD_GIB)
    with (
        progress.step(f"{NAME} {versions.PULUMI}", "preparing the build") as step,
        disk.naming_a_full_disk(target, "the Pulumi CLI", BUILD_GIB),
        store.publishing(target) as draft,
    ):
        folder = draft / "bin"
        folder.mkdir()
        golang.compile(go, BUILD, folder / "pulumi", step, on_linking)
        # A release has these plain scripts next to the CLI. They run with the program's own Python.
        scripts = golang.module_folder(go, BUILD.module, _SDK) / "python"
        for script in (
            scripts / "cmd" / "pulumi-language-python-exec",
            scripts / "dist" / "pulumi-resource-pulumi-python",
        ):
            _executable(folder / script.name, script.read_text(encoding="utf-8"))
        _executable(folder / LANGUAGE_HOST, _LAUNCHER)
    return _cli(target / "bin" / "pulumi", versions.PULUMI, ToolSource.BUILT)


def _executable(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    path.chmod(0o755)
