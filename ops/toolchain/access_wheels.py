"""The wheelhouse of the access image as a part of the toolchain. Its content is defined in infra.images.wheelhouse."""

from __future__ import annotations

from infra.images import wheelhouse
from infra.spec.checkout import Checkout
from ops.toolchain.docker_engine import Engine
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.progress import Progress

NAME = "Access wheels"


def installed(checkout: Checkout, engine: Engine) -> Tool | None:
    """Return the wheels for this engine's architecture, or None if the cache does not have them."""
    folder = wheelhouse.folder(checkout, engine.arch)
    return Tool(NAME, folder.name[:12], ToolSource.CACHED, str(folder)) if folder.is_dir() else None


def ensure(checkout: Checkout, engine: Engine, progress: Progress) -> Tool:
    """Download the wheels if necessary. Raises infra.images.wheelhouse.WheelhouseError."""
    if (tool := installed(checkout, engine)) is not None:
        return tool
    with progress.step(NAME, "downloading"):
        folder = wheelhouse.ensure(checkout, engine.arch)
    return Tool(NAME, folder.name[:12], ToolSource.DOWNLOADED, str(folder))
