"""The identity of a checkout: its key, and the folders and names that are derived from it.

Two checkouts on one machine share only the cache folder. The names of their Docker objects and state folders contain
the key. This module reads paths and the environment, and never uses the network.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from infra.spec.errors import SettingError
from infra.spec.variables import variable

PROJECT = "groundwork"
STATE_VARIABLE = "GROUNDWORK_STATE"
CACHE_VARIABLE = "GROUNDWORK_CACHE"
# The Docker label with the id of the state that owns a container, network or volume.
STATE_LABEL = f"{PROJECT}.state"


def stack_of_file(settings: Path) -> str:
    """Return the stack of a file Pulumi.NAME.yaml. Its name may contain dots."""
    return settings.name.removeprefix("Pulumi.").removesuffix(".yaml")


@dataclass(frozen=True)
class Checkout:
    """The folders of a checkout.

    - `root`: the checkout.
    - `key`: six hex digits of a hash of its real path.
    - `state_dir`: its state folder, with mode 0700 (Pulumi's state, passphrase, certificates).
    - `cache_dir`: the folder that all checkouts share.
    """

    root: Path
    key: str
    state_dir: Path
    cache_dir: Path

    @classmethod
    def here(cls, root: Path | None = None) -> Checkout:
        """Return the folders of the checkout that contains this file, or of `root`."""
        root = (root or Path(__file__).parents[2]).resolve()
        key = hashlib.sha256(str(root).encode()).hexdigest()[:6]
        state_home = _folder(STATE_VARIABLE, "XDG_STATE_HOME", ".local/state")
        cache_home = _folder(CACHE_VARIABLE, "XDG_CACHE_HOME", ".cache")
        return cls(
            root=root,
            key=key,
            # Pulumi reads the path as a URL, and decodes it more than once.
            state_dir=state_home / f"{re.sub('[%#?]', '-', root.name)}-{key}",
            cache_dir=cache_home,
        )

    def variable_of(self, path: Path) -> str | None:
        """Return the variable that moves the state or the cache out of `path`, or None if neither is there."""
        folders = {STATE_VARIABLE: self.state_dir, CACHE_VARIABLE: self.cache_dir}
        return next((name for name, folder in folders.items() if folder.is_relative_to(path)), None)

    @property
    def passphrase_file(self) -> Path:
        return self.state_dir / "passphrase"

    @property
    def backend_dir(self) -> Path:
        return self.state_dir / "pulumi"

    def stacks(self) -> list[str]:
        """Return the names of the stacks that have settings, whether or not they are up."""
        return sorted(map(stack_of_file, self.root.glob("Pulumi.*.yaml")))

    def state_file(self, stack: str) -> Path:
        """Return the file of a stack's state in Pulumi's local backend."""
        return self.backend_dir / ".pulumi" / "stacks" / PROJECT / f"{stack}.json"

    def stack_dir(self, stack: str) -> Path:
        """Return the folder for a stack's other files on this machine: CA certificate, leased ports, rotation."""
        return self.state_dir / "stacks" / stack

    def ca_file(self, stack: str) -> Path:
        return self.stack_dir(stack) / "ca.crt"

    def name(self, stack: str, what: str) -> str:
        """Return the Docker name of an object of a stack, such as `gw-1a2b3c-dev-postgres`."""
        return f"gw-{self.key}-{stack}-{what}"

    def labels(self, stack: str) -> dict[str, str]:
        """Return the labels that identify a stack's resources; infra.docker.ownership adds their owner."""
        return {f"{PROJECT}.checkout": self.key, f"{PROJECT}.stack": stack}


def is_checkout() -> bool:
    """Return whether this code is in a checkout. An installed package and an image have only parts of one."""
    return (Path(__file__).parents[2] / "pyproject.toml").exists()


def _folder(own: str, xdg: str, fallback: str) -> Path:
    """Return the folder of a variable, or one in the user's home. Raise SettingError if it cannot be found.

    The commands and the program that Pulumi runs have different working directories, so a path must not depend on them.
    """
    try:
        value = variable(own)
        if value is not None:
            path = Path(value).expanduser()
            if not path.is_absolute():
                raise SettingError(own, f"{value!r} is a relative path", "give an absolute one")
            return path.resolve()
        # The XDG specification says to ignore a relative path.
        if (path := Path(os.environ.get(xdg, "")).expanduser()).is_absolute():
            return path.resolve() / PROJECT
        return Path.home() / fallback / PROJECT
    except RuntimeError as error:
        raise SettingError(
            "HOME", f"the home directory is not known ({error})", f"set HOME, or {own}"
        ) from error
