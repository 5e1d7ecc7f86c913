"""apt-get's commands, and the meaning of its errors. Removes no package.

bootstrap.py uses this before anything is installed: standard library only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence

# Keeps apt-get from asking questions, and its errors in English.
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
# With this option apt-get itself waits for dpkg's locks. `LockWait` waits for the others, e.g. of the package lists.
_APT = ("apt-get", "-y", "-o", "DPkg::Lock::Timeout=180")
UPDATE = (*_APT, "update")
INSTALL = (*_APT, "install", "--no-install-recommends", "--no-remove")
LOCK_SECONDS = 180.0
LOCK_PAUSE_SECONDS = 2.0
_LOCKED = re.compile(
    r"E: Could not get lock (?P<file>/\S+?)\.?(?: It is held by (?P<holder>process .+)| - .*)?"
)
_REMOVALS = "The following packages will be REMOVED:"
_REFUSED_REMOVAL = "E: Packages need to be removed but remove is disabled."
_INTERRUPTED = "E: dpkg was interrupted"
# Docker's own packages, which conflict with Debian's docker.io.
_DOCKERS_OWN = ("containerd.io", "docker-ce")


class LockWait:
    """Decides whether to repeat an apt-get command, because another process holds a lock that it needs.

    A machine that has just started often updates its package lists (apt-daily, cloud-init).
    """

    def __init__(self, on_wait: Callable[[str], None]) -> None:
        self._on_wait = on_wait
        self._deadline = time.monotonic() + LOCK_SECONDS
        self._holder: str | None = None

    def should_repeat(self, lines: Iterable[str]) -> bool:
        """Return whether to repeat the command that failed with these lines. Call `on_wait` once for each holder."""
        lock = _lock(lines)
        if lock is None or time.monotonic() >= self._deadline:
            return False
        _, holder = lock
        if holder != self._holder:
            self._on_wait(holder)
        self._holder = holder
        return True


def explain(lines: Sequence[str], packages: Sequence[str] = ()) -> str | None:
    """Return what happened and what to do, or None for another reason than those that this module knows.

    `lines` is apt-get's output. Without `packages`, the command was an update.
    """
    what = (
        f"apt-get cannot install {' '.join(packages)}"
        if packages
        else "apt-get cannot update its package lists"
    )
    if lock := _lock(lines):
        file, holder = lock
        return f"{what}: {file} is held by {holder}; run the same command again when that process has ended"
    if any(line.startswith(_INTERRUPTED) for line in lines):
        return (
            f"{what}, because dpkg was interrupted before; run `dpkg --configure -a` as root, and the same command"
            " again"
        )
    if _REFUSED_REMOVAL not in lines:
        return None
    removed = _removed(lines)
    advice = f"decide which packages to keep, and install {' '.join(packages)} by hand"
    if any(name.startswith(_DOCKERS_OWN) for name in removed):
        advice = (
            "install Docker's own engine, to which they belong (docker-ce), and run the same command again"
        )
    return (
        f"{what} without removing {' '.join(removed) or 'other packages'}, so nothing was changed; {advice}"
    )


def _lock(lines: Iterable[str]) -> tuple[str, str] | None:
    """Return the file of the lock that apt-get could not get, and the process that holds it."""
    for line in lines:
        if found := _LOCKED.fullmatch(line):
            return found["file"], found["holder"] or "another process"
    return None


def _removed(lines: Sequence[str]) -> list[str]:
    """Return the packages that apt-get would have to remove."""
    names: list[str] = []
    is_listed = False
    for line in lines:
        if line == _REMOVALS:
            is_listed = True
        elif is_listed and line.startswith("  "):
            names += line.split()
        elif not line.startswith(("E:", "W:", "N:")):
            # A line of stderr can be between two of stdout.
            is_listed = False
    return [name.rstrip("*") for name in names]
