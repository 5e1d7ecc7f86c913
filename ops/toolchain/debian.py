"""Debian's package manager, for a machine where we are root and something is missing. Removes nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ops.errors import OpsError
from ops.toolchain import process
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Step

_LISTS = Path("/var/lib/apt/lists")
_FRESH_SECONDS = 6 * 3600
# The lock of another apt (unattended upgrades, mostly) is waited for.
_APT = ("apt-get", "-y", "-o", "DPkg::Lock::Timeout=180")


def can_install() -> bool:
    """Whether packages can be installed: apt is there, and we are root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], step: Step) -> None:
    """Install packages, without what they recommend; package lists are fetched where they are old. OpsError."""
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        if not _lists_are_fresh():
            step.now("updating apt's package lists")
            process.run([*_APT, "update"], env=env, timeout_seconds=300)
        step.now(f"installing {' '.join(packages)}")
        process.run([*_APT, "install", "--no-install-recommends", *packages], env=env, timeout_seconds=600)
    except CommandFailed as error:
        problems = [line for line in error.tail if line.startswith("E:")]
        raise OpsError(
            f"apt-get cannot install {' '.join(packages)}: {problems[0] if problems else error}; "
            f"install {'it' if len(packages) == 1 else 'them'} by hand and run the same command again"
        ) from error


@cache
def offers(package: str) -> bool:
    """Whether a package of this name can be installed here."""
    try:
        return bool(process.run(["apt-cache", "show", "--no-all-versions", package], timeout_seconds=30))
    except CommandFailed:
        return False


def _lists_are_fresh() -> bool:
    """An image's package lists are often absent, and of old ones half the addresses no longer answer."""
    lists = list(_LISTS.glob("*_Packages*")) if _LISTS.is_dir() else []
    return any(path.stat().st_mtime > time.time() - _FRESH_SECONDS for path in lists)
