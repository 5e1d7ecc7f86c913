"""The base of all groundwork images: present already, pulled, or built from Debian's packages.

The Pulumi program, not this module, builds groundwork's own images.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from infra.docker_command import DOCKER_OVERRIDES
from infra.images import proxies
from infra.images.context import BASE_IMAGE, BASE_REFERENCE
from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import debian, disk, process, store
from ops.toolchain.disk import DiskFullError
from ops.toolchain.docker_engine import Engine, host_arch
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress, ProgressStep

NAME = "Base image"
# An unreachable registry stays silent. A reachable one answers at once, although the download may take long.
PULL_SILENCE_SECONDS = 15
# Enough for its 30 MB at 50 kB/s. An interrupted pull starts from the beginning.
PULL_SECONDS = 600
MAKING_SECONDS = 20
MAKING_GIB = 1.0
# Measured: 0.35 GB. The archive in the cache takes 0.16 GB.
UNPACKING_GIB = 0.5
_MAKING = "building the base image"
_UNPACKING = "unpacking the packages of the base image"
# Where mmdebstrap may unpack. /tmp may be a small file system in memory.
_TEMPORARY = [Path("/tmp"), Path("/var/tmp")]


def installed(engine: Engine) -> Tool | None:
    """Return the image, or None if the engine does not have it for its own architecture."""
    described = "{{.Id}} {{.Architecture}}"
    try:
        found = process.run(
            ["docker", "image", "inspect", "--format", described, BASE_IMAGE], timeout_seconds=20
        )[0]
    except (CommandFailed, IndexError):
        return None
    # An image of another origin may have no architecture.
    image, _, architecture = found.partition(" ")
    return _tool(image, ToolSource.CACHED) if architecture == engine.arch else None


def ensure(checkout: Checkout, engine: Engine, progress: Progress) -> Tool:
    """Provide the image. Raises OpsError."""
    if (tool := installed(engine)) is not None:
        return tool
    with store.exclusive(
        checkout.cache_dir,
        "base-image",
        lambda who: progress.say(f"{NAME}: waiting for {who}, which builds it"),
    ):
        if (tool := installed(engine)) is not None:
            return tool
        with progress.step(f"{NAME} {BASE_IMAGE}", "pulling") as step:
            refusal = _pull()
            if refusal is None:
                step.doing, source = "pulled", ToolSource.DOWNLOADED
            else:
                _make(checkout, engine, refusal, step)
                step.doing, source = (
                    "built from Debian's packages (no registry can be reached)",
                    ToolSource.BUILT,
                )
        made = installed(engine)
        if made is None:
            raise OpsError(
                f"{BASE_IMAGE} was created, but the Docker engine does not have it for {engine.arch};"
                " run the same command again"
            )
        return _tool(made.version, source)


def _tool(image: str, source: ToolSource) -> Tool:
    return Tool(NAME, image.removeprefix("sha256:")[:12], source, BASE_IMAGE)


def _pull() -> str | None:
    """Pull the image. Return None, or the reason if that fails."""
    try:
        process.run(
            ["docker", "pull", BASE_REFERENCE],
            env=os.environ | DOCKER_OVERRIDES,
            first_line_seconds=PULL_SILENCE_SECONDS,
            timeout_seconds=PULL_SECONDS,
        )
        process.run(["docker", "tag", BASE_REFERENCE, BASE_IMAGE], timeout_seconds=20)
    except CommandFailed as error:
        return _last_line(error)
    return None


def _make(checkout: Checkout, engine: Engine, refusal: str, step: ProgressStep) -> None:
    """Build an image of Debian 12 from the same packages as the published image."""
    if engine.arch != host_arch():
        raise OpsError(
            f"cannot pull {BASE_REFERENCE} ({refusal}), nor build it for {engine.arch} on this machine; make a"
            f" registry reachable, or `docker load` an image for {engine.arch} named {BASE_IMAGE}"
        )
    if shutil.which("mmdebstrap") is None:
        if not debian.can_install():
            raise OpsError(
                f"cannot pull {BASE_REFERENCE} ({refusal}); make a registry reachable, `docker load` an image for"
                f" {engine.arch} named {BASE_IMAGE}, or install mmdebstrap to build the image from Debian's packages"
            )
        debian.install(["mmdebstrap"], step)
    unpacked = _require_space(checkout)
    step.now("building it from Debian's packages", MAKING_SECONDS)
    # Through a file instead of a pipe, so that an incomplete archive never becomes an image.
    with (
        disk.naming_a_full_disk(checkout.cache_dir, _MAKING, MAKING_GIB),
        store.publishing(checkout.cache_dir / "base-image") as draft,
    ):
        archive = draft / "bookworm.tar"
        try:
            _unpack(archive, unpacked)
            process.run(
                ["docker", "import", "--change", 'CMD ["bash"]', str(archive), BASE_IMAGE],
                env=os.environ | DOCKER_OVERRIDES,
                timeout_seconds=300,
            )
        except CommandFailed as error:
            problem = _last_line(error)
            if disk.is_full(error):
                # mmdebstrap's own is a DiskFullError already.
                raise OpsError(
                    f"cannot import the base image, because the Docker engine's disk is full ({problem}); free space"
                    " there and run the same command again"
                ) from error
            raise OpsError(
                f"cannot pull {BASE_REFERENCE} ({refusal}), nor build it from Debian's packages "
                f"({problem}); check the network and run the same command again"
            ) from error
        finally:
            archive.unlink(missing_ok=True)
    store.discard(checkout.cache_dir / "base-image")


def _require_space(checkout: Checkout) -> Path:
    """Return the folder in which mmdebstrap unpacks the packages. Raises DiskFullError, or OpsError for noexec.

    Not a folder of the cache: without root, mmdebstrap works as another user, who must be able to write there.
    """
    disk.require(checkout.cache_dir, _MAKING, MAKING_GIB)
    given = os.environ.get("TMPDIR", "")
    folders = [Path(given)] if os.access(given, os.W_OK) else _TEMPORARY
    # mmdebstrap runs programs of the packages.
    candidates = [folder for folder in folders if not _is_noexec(folder)]
    if not candidates:
        raise OpsError(
            f"cannot build the base image in {folders[0]}, which is mounted with noexec; set TMPDIR to a folder"
            " whose file system may run programs"
        )
    for folder in candidates:
        with suppress(DiskFullError):
            disk.require(folder, _UNPACKING, UNPACKING_GIB)
            return folder
    raise DiskFullError(candidates[0], _UNPACKING, UNPACKING_GIB)


def _is_noexec(folder: Path) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    except OSError:
        # A folder that is missing is reported where it is used.
        return False


def _unpack(archive: Path, unpacked: Path) -> None:
    # The archive needs half of the space that the folder needs, and less than what was found in the cache.
    with disk.naming_a_full_disk(unpacked, _UNPACKING, UNPACKING_GIB):
        process.run(
            ["mmdebstrap", "--variant=apt", "bookworm", str(archive)],
            env=os.environ | proxies.of_environment() | {"TMPDIR": str(unpacked)},
            timeout_seconds=600,
        )


def _last_line(error: CommandFailed) -> str:
    return proxies.without_logins(error.last_line, proxies.of_environment().values())
