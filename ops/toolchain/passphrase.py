"""The checkout's passphrase, which Pulumi encrypts secrets with: made once, readable by its owner only."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from infra.spec.world import World
from ops.errors import OpsError


def ensure(world: World) -> None:
    """Make the passphrase file where there is none. OpsError where a state needs one that is gone."""
    path = world.passphrase_file
    if path.exists():
        return
    world.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    world.state_dir.chmod(0o700)
    if any((world.backend_dir / ".pulumi" / "stacks").glob("*/*.json")):
        raise OpsError(
            f"{path} is missing, and the stacks in {world.backend_dir} cannot be read without it; "
            f"restore it from a backup, or remove {world.backend_dir} and what those stacks left in Docker"
        )
    # Made with mode 0600.
    descriptor, draft = tempfile.mkstemp(prefix=".passphrase.", dir=world.state_dir)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(secrets.token_urlsafe(32) + "\n")
    try:
        # Fails where another process was first, whose passphrase then holds: a rename would replace it.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
