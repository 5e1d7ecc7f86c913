"""The image all of ours are made from: there already, pulled, or made from Debian's packages.

Builds no image of groundwork's own; that is the Pulumi program's.
"""

from __future__ import annotations

import shutil

from infra.spec.world import World
from ops.errors import OpsError
from ops.toolchain import debian, disk, process, store
from ops.toolchain.docker_engine import Engine, host_arch
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress, Step

IMAGE = "debian:bookworm-slim"
NAME = "Base image"
# A registry that is not reached shows in silence; one that is reached answers at once, and then may take long.
PULL_SILENCE_SECONDS = 15
PULL_SECONDS = 180
MAKING_SECONDS = 20
MAKING_GIB = 1.0


def installed() -> Tool | None:
    """The image, if the engine has it."""
    try:
        image = process.run(["docker", "image", "inspect", "--format", "{{.Id}}", IMAGE], timeout_seconds=20)[
            0
        ]
    except (CommandFailed, IndexError):
        return None
    return _tool(image, Source.CACHED)


def ensure(world: World, engine: Engine, progress: Progress) -> Tool:
    """Put the image in place. Raises OpsError."""
    if (tool := installed()) is not None:
        return tool
    with store.exclusive(
        world.cache_dir, "base-image", lambda who: progress.say(f"{NAME}: waiting for {who}, which makes it")
    ):
        if (tool := installed()) is not None:
            return tool
        with progress.step(f"{NAME} {IMAGE}", "pulling") as step:
            refusal = _pull()
            if refusal is None:
                step.doing, source = "pulled", Source.DOWNLOADED
            else:
                _make(world, engine, refusal, step)
                step.doing, source = ("made from Debian's packages (no registry is reached)", Source.BUILT)
        made = installed()
        if made is None:
            raise OpsError(
                f"{IMAGE} was made, and the Docker engine does not have it; run the same command again"
            )
        return _tool(made.version, source)


def _tool(image: str, source: Source) -> Tool:
    return Tool(NAME, image.removeprefix("sha256:")[:12], source, IMAGE)


def _pull() -> str | None:
    """Pull the image; why it cannot be had, otherwise."""
    try:
        process.run(
            ["docker", "pull", IMAGE], first_line_seconds=PULL_SILENCE_SECONDS, timeout_seconds=PULL_SECONDS
        )
    except CommandFailed as error:
        return error.tail[-1] if error.tail else str(error)
    return None


def _make(world: World, engine: Engine, refusal: str, step: Step) -> None:
    """Bootstrap Debian 12 into an image: the same packages the published one is made of."""
    if engine.arch != host_arch():
        raise OpsError(f"{IMAGE} cannot be pulled ({refusal}), nor made on this machine for {engine.arch}")
    if shutil.which("mmdebstrap") is None:
        if not debian.can_install():
            raise OpsError(
                f"{IMAGE} cannot be pulled ({refusal}); make a registry reachable, `docker load` the image, "
                "or install mmdebstrap to have it made from Debian's packages"
            )
        debian.install(["mmdebstrap"], step)
    disk.require(world.cache_dir, "making the base image", MAKING_GIB)
    step.now("making it from Debian's packages", MAKING_SECONDS)
    # Through a file, not a pipe: half an archive must not become an image.
    with (
        disk.naming_a_full_disk(world.cache_dir, "making the base image", MAKING_GIB),
        store.publishing(world.cache_dir / "base-image") as draft,
    ):
        archive = draft / "bookworm.tar"
        try:
            process.run(["mmdebstrap", "--variant=apt", "bookworm", str(archive)], timeout_seconds=600)
            process.run(
                ["docker", "import", "--change", 'CMD ["bash"]', str(archive), IMAGE], timeout_seconds=300
            )
        except CommandFailed as error:
            raise OpsError(
                f"{IMAGE} cannot be pulled ({refusal}), nor made from Debian's packages "
                f"({error.tail[-1] if error.tail else error}); check the network and run the same command again"
            ) from error
        finally:
            archive.unlink(missing_ok=True)
    store.discard(world.cache_dir / "base-image")
