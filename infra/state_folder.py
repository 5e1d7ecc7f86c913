"""A checkout's state folder: private to its owner, with an id that marks the state's resources in Docker."""

from __future__ import annotations

import os
import pwd
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from infra.atomic_write import create, put
from infra.spec.checkout import PROJECT, STATE_VARIABLE, Checkout
from infra.spec.errors import InfraError

ID_FILE = "state-id"
_PRIVATE = 0o700
_ID = re.compile(r"[0-9a-f]{32}")


def make_private(checkout: Checkout, folder: Path) -> None:
    """Create a folder of the state, and the state folders above it, with mode 0700, regardless of the umask.

    An existing folder with a wider mode is tightened if it is ours. A folder that GROUNDWORK_STATE names may
    have been made for several users, so it keeps its mode.
    """
    home = checkout.state_dir.parent
    home.parent.mkdir(parents=True, exist_ok=True)
    inside = [parent for parent in folder.parents if home in parent.parents]
    for each in (home, *reversed(inside), folder):
        try:
            each.mkdir(mode=_PRIVATE)
        except FileExistsError:
            if each == home and (home.name != PROJECT or STATE_VARIABLE in os.environ):
                continue
        found = each.stat()
        if found.st_mode & 0o777 != _PRIVATE and found.st_uid == os.geteuid():
            each.chmod(_PRIVATE)


@dataclass(frozen=True)
class Mark:
    """An empty file in a stack's folder. It records across a kill that something has begun, until it is removed."""

    checkout: Checkout
    stack: str
    name: str

    def is_set(self) -> bool:
        return self._path.exists()

    def set(self) -> None:
        make_private(self.checkout, self._path.parent)
        put(self._path, "")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self.checkout.stack_dir(self.stack) / self.name


def id_file(checkout: Checkout) -> Path:
    return checkout.state_dir / ID_FILE


def read_id(checkout: Checkout) -> str | None:
    """Return the id of the state, or None if it has none yet."""
    path = id_file(checkout)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    if not _ID.fullmatch(text):
        raise InfraError(
            f"{path} is damaged: it does not contain an id; delete it, and the next command creates a new one"
        )
    return text


def ensure_id(checkout: Checkout) -> str:
    """Return the id of the state, created at the first call. Processes that race get the same id."""
    if (found := read_id(checkout)) is not None:
        return found
    make_private(checkout, checkout.state_dir)
    create(id_file(checkout), f"{secrets.token_hex(16)}\n")
    made = read_id(checkout)
    assert made is not None
    return made


def owner(checkout: Checkout) -> str:
    """Return the user who owns the state folder. Under sudo this may be another user than the current one."""
    uid = checkout.state_dir.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
