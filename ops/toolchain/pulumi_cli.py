"""The Pulumi CLI with its Python language host: on PATH, as the official release, or built from Go modules.

The first of these that can be had is taken; why a later one was needed is said. Plugins are not its business.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.spec.world import World
from ops.toolchain import disk, golang, inventory, process, store, versions
from ops.toolchain.inventory import Choice, Source, Tool
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress

NAME = "Pulumi CLI"
LANGUAGE_HOST = "pulumi-language-python"
BUILD = golang.Whole(packages=1520, seconds=240)
RELEASE_GIB = 1.0
BUILD_GIB = 1.0
# A download that takes longer than a build is not worth waiting for.
RELEASE_DEADLINE_SECONDS = 300

_RELEASES = "https://get.pulumi.com/install.sh"
_PROBE_SECONDS = 4.0

# Beside the CLI, where the engine looks for the language host of a release. Only the environment says whose
# Python it is: the cache is shared by every checkout.
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
    """A CLI in place: its path, and what it and its language host were taken from."""

    command: Path
    tool: Tool
    language_host: Tool


def installed(world: World) -> Cli | None:
    """The CLI this checkout uses, if it is in place: the remembered one, on PATH, or in the cache."""
    if (choice := inventory.recall(world)) is not None:
        path = Path(choice.pulumi)
        source = Source.CACHED if path.is_relative_to(world.cache_dir) else Source.FOUND
        return _cli(path, choice.version, source)
    if (found := _on_path(world)) is not None:
        return found
    for folder in (versions.pulumi_release(world), versions.pulumi_build(world)):
        command = folder / "bin" / "pulumi"
        if command.is_file():
            return _cli(command, versions.PULUMI, Source.CACHED)
    return None


def ensure(world: World, progress: Progress) -> Cli:
    """Put the CLI in place and remember it for the checkout. Raises OpsError."""
    cli = installed(world)
    if cli is None:
        with store.exclusive(
            world.cache_dir, "pulumi", lambda who: progress.say(f"{NAME}: waiting for {who}, which makes it")
        ):
            # Another process may have made it while this one waited.
            cli = installed(world) or _download(world, progress) or _build(world, progress)
    inventory.remember(world, Choice.of(cli.command, cli.tool.version))
    return cli


@cache
def releases_are_reached() -> bool:
    """Whether official releases can be downloaded from here: asked once, answered within seconds.

    In a thread, because the resolver of a network that swallows packets has no deadline.
    """
    import urllib.request

    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(_RELEASES, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS) as response:
                answers.append(response.status == 200)
        except (OSError, ValueError):
            answers.append(False)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PROBE_SECONDS)
    return answers == [True]


def is_supported(version: str) -> bool:
    """Whether a CLI of this version runs our programs: the same major version, not older than the SDK."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        return False
    theirs = tuple(int(part) for part in numbers.groups())
    ours = tuple(int(part) for part in versions.PULUMI.split("."))
    return theirs[0] == ours[0] and theirs >= ours


def _cli(command: Path, version: str, source: Source) -> Cli:
    ours = (command.parent / LANGUAGE_HOST).is_file() and _is_ours(command.parent / LANGUAGE_HOST)
    host = command.parent / LANGUAGE_HOST
    return Cli(
        command=command,
        tool=Tool(NAME, version, source, str(command)),
        language_host=Tool(
            "Python language host", version if not ours else versions.PULUMI,
            Source.FOUND if source is Source.FOUND else source,
            str(host) if host.is_file() else shutil.which(LANGUAGE_HOST) or "",
        ),
    )  # fmt: skip


def _is_ours(host: Path) -> bool:
    with host.open("rb") as opened:
        return opened.read(2) == b"#!"


def _on_path(world: World) -> Cli | None:
    # Our own cache is on PATH after `eval "$(groundwork shellenv)"`: that is not a CLI of the user's.
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    theirs = os.pathsep.join(f for f in folders if not Path(f).is_relative_to(world.cache_dir))
    command = shutil.which("pulumi", path=theirs)
    if command is None:
        return None
    path = Path(command)
    # A CLI packaged without its language host cannot run this program, and ours must not shadow one.
    if (
        not (path.resolve().parent / LANGUAGE_HOST).exists()
        and shutil.which(LANGUAGE_HOST, path=theirs) is None
    ):
        return None
    env = os.environ | {
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_HOME": str(versions.pulumi_home(world)),
    }
    try:
        version = process.run([command, "version"], env=env, timeout_seconds=20)[0].removeprefix("v")
    except (CommandFailed, IndexError):
        return None
    return _cli(path, version, Source.FOUND) if is_supported(version) else None


def _download(world: World, progress: Progress) -> Cli | None:
    """The official release, None where it cannot be had."""
    if not releases_are_reached():
        progress.say(f"{NAME}: official releases are not reached from here")
        return None
    target = versions.pulumi_release(world)
    what = "the Pulumi release"
    disk.require(target, what, RELEASE_GIB)
    install = (
        "import sys; from pulumi.automation import PulumiCommand; from semver import VersionInfo as Version; "
        "PulumiCommand.install(root=sys.argv[1], version=Version.parse(sys.argv[2]))"
    )
    try:
        with (
            progress.step(f"{NAME} {versions.PULUMI}", "downloading the official release") as step,
            disk.naming_a_full_disk(target, what, RELEASE_GIB),
            store.publishing(target) as draft,
        ):
            process.run(
                [sys.executable, "-c", install, str(draft), versions.PULUMI],
                env=os.environ | {"PULUMI_HOME": str(versions.pulumi_home(world)), "TMPDIR": str(draft)},
                timeout_seconds=RELEASE_DEADLINE_SECONDS,
            )
            step.doing = "downloaded the official release"
    except CommandFailed as error:
        progress.say(f"{NAME}: no official release ({error}); building it instead")
        return None
    return _cli(target / "bin" / "pulumi", versions.PULUMI, Source.DOWNLOADED)


def _build(world: World, progress: Progress) -> Cli:
    go = golang.find(world, progress)
    module = versions.SOURCES / "pulumi_cli"
    target = versions.pulumi_build(world)
    sdk = "github.com/pulumi/pulumi/sdk/v3"
    disk.require(target, "the Pulumi CLI", BUILD_GIB)
    with (
        progress.step(f"{NAME} {versions.PULUMI}", "preparing the build") as step,
        disk.naming_a_full_disk(target, "the Pulumi CLI", BUILD_GIB),
        store.publishing(target) as draft,
    ):
        folder = draft / "bin"
        folder.mkdir()
        golang.build(
            go,
            module,
            "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            folder / "pulumi",
            tags=("osusergo", "grpcnotrace"),
            ldflags=f"-s -w -X {sdk}/go/common/version.Version=v{versions.PULUMI}",
            step=step,
            whole=BUILD,
        )
        # What a release ships beside the CLI and runs under the program's own Python: plain scripts.
        scripts = golang.module_folder(go, module, sdk) / "python"
        for script in (
            scripts / "cmd" / "pulumi-language-python-exec",
            scripts / "dist" / "pulumi-resource-pulumi-python",
        ):
            _executable(folder / script.name, script.read_text())
        _executable(folder / LANGUAGE_HOST, _LAUNCHER)
    return _cli(target / "bin" / "pulumi", versions.PULUMI, Source.BUILT)


def _executable(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)
