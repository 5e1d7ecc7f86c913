"""The wheelhouse of the access image as a part of the toolchain; what it holds is infra.images.wheelhouse's."""

from __future__ import annotations

from infra.images import wheelhouse
from infra.spec.world import World
from ops.toolchain.docker_engine import Engine
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.progress import Progress

NAME = "Access wheels"


def installed(world: World, engine: Engine) -> Tool | None:
    """The wheels for this engine's architecture, if the cache has them."""
    folder = wheelhouse.folder(world, engine.arch)
    return Tool(NAME, folder.name[:12], Source.CACHED, str(folder)) if folder.is_dir() else None


def ensure(world: World, engine: Engine, progress: Progress) -> Tool:
    """Put the wheels in place. Raises infra.images.wheelhouse.WheelhouseError."""
    if (tool := installed(world, engine)) is not None:
        return tool
    with progress.step(NAME, "downloading"):
        folder = wheelhouse.ensure(world, engine.arch)
    return Tool(NAME, folder.name[:12], Source.DOWNLOADED, str(folder))
