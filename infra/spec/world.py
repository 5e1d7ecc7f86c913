"""The identity of a checkout: its key, and the folders and names that follow from it.

Two clones on one machine share caches and nothing else; everything that Docker or the file system
holds for a checkout carries its key. This module reads paths and environment, never the network.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = "groundwork"


@dataclass(frozen=True)
class World:
    """Where a checkout keeps what must not lie inside it.

    `root` is the checkout, `key` six hex digits of its real path, `state_dir` its own folder (0700:
    Pulumi state, passphrase, certificates), `cache_dir` the folder shared by every checkout.
    """

    root: Path
    key: str
    state_dir: Path
    cache_dir: Path

    @classmethod
    def here(cls, root: Path | None = None) -> World:
        """The world of the checkout this file belongs to (the project is installed editable)."""
        root = (root or Path(__file__).parents[2]).resolve()
        key = hashlib.sha256(str(root).encode()).hexdigest()[:6]
        state_home = _folder("GROUNDWORK_STATE", "XDG_STATE_HOME", ".local/state")
        cache_home = _folder("GROUNDWORK_CACHE", "XDG_CACHE_HOME", ".cache")
        return cls(
            root=root,
            key=key,
            state_dir=state_home / f"{root.name}-{key}",
            cache_dir=cache_home,
        )

    @property
    def passphrase_file(self) -> Path:
        return self.state_dir / "passphrase"

    @property
    def backend_dir(self) -> Path:
        return self.state_dir / "pulumi"

    def state_file(self, stack: str) -> Path:
        """Where Pulumi keeps a stack's state, if it keeps it on this machine."""
        return self.backend_dir / ".pulumi" / "stacks" / PROJECT / f"{stack}.json"

    def stack_dir(self, stack: str) -> Path:
        """What one stack keeps on the host beside Pulumi's state: its CA certificate, leased ports, rotation."""
        return self.state_dir / "stacks" / stack

    def ca_file(self, stack: str) -> Path:
        return self.stack_dir(stack) / "ca.crt"

    def name(self, stack: str, what: str) -> str:
        """The Docker name of one thing of a stack: `gw-1a2b3c-dev-postgres`."""
        return f"gw-{self.key}-{stack}-{what}"

    def labels(self, stack: str) -> dict[str, str]:
        """Labels on everything a stack makes, so that a left-over can be found by its owner."""
        return {f"{PROJECT}.checkout": self.key, f"{PROJECT}.stack": stack}


def _folder(own: str, xdg: str, fallback: str) -> Path:
    if value := os.environ.get(own):
        return Path(value).expanduser().resolve()
    if value := os.environ.get(xdg):
        return Path(value).expanduser().resolve() / PROJECT
    return Path.home() / fallback / PROJECT
