"""The git filter that keeps Pulumi's `encryptionsalt` out of commits and `git status` (docs/adr/0002).

`.gitattributes` names the filter; git wants its command in the configuration of each clone.
"""

from __future__ import annotations

import shutil

from infra.spec.world import World
from ops.errors import OpsError
from ops.toolchain import process
from ops.toolchain.process import CommandFailed

FILTER = "filter.groundwork-salt.clean"
COMMAND = "sed -e '/^encryptionsalt: /d'"


def ensure(world: World) -> None:
    """Configure the filter where the checkout is a git repository that lacks it. Raises OpsError."""
    repository = world.root / ".git"
    if not repository.exists() or shutil.which("git") is None:
        return
    # Read before anything is run: this is on the way of every `make up`. In a worktree .git is a file.
    configuration = repository / "config"
    if configuration.is_file() and COMMAND in configuration.read_text(errors="replace"):
        return
    try:
        process.run(["git", "config", "--local", FILTER, COMMAND], cwd=world.root, timeout_seconds=20)
    except CommandFailed as error:
        raise OpsError(f"git cannot be configured in {world.root}: {error}") from error
