"""Debian's package manager, used if this process is root and a program is missing. Removes no package."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.images import proxies
from ops.errors import OpsError
from ops.toolchain import apt, disk, process
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import ProgressStep

_LISTS = Path("/var/lib/apt/lists")
_FRESH_SECONDS = 6 * 3600


def can_install() -> bool:
    """Return whether packages can be installed: this process is root, and apt exists."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str] | Callable[[], Sequence[str]], step: ProgressStep) -> None:
    """Install packages without their recommended packages. Raises OpsError.

    Update the package lists first if they are missing or old. Pass a function to choose packages with `offers`:
    it is called after the update. Wait for another apt, and refuse to remove packages that conflict.
    """
    names: Sequence[str] = ()
    try:
        if not _lists_are_fresh():
            _run(apt.UPDATE, "updating apt's package lists", step, timeout_seconds=300)
        names = packages() if callable(packages) else packages
        # Never interrupted, nor limited in time, because a package could stay half configured.
        doing = f"installing {' '.join(names)}"
        _run([*apt.INSTALL, *names], doing, step, can_stop=False)
    except CommandFailed as error:
        if explained := apt.explain(error.tail, names):
            raise OpsError(explained) from error
        problems = [line for line in error.errors if line.startswith("E:")]
        what = f"install {' '.join(names)}" if names else "update its package lists"
        problem = proxies.without_logins(
            problems[0] if problems else str(error), proxies.of_environment().values()
        )
        advice = "free space there" if disk.is_full(error) else "check the network and apt's sources"
        raise OpsError(
            f"apt-get cannot {what}: {problem}; {advice}, and run the same command again"
        ) from error


def _run(
    command: Sequence[str],
    doing: str,
    step: ProgressStep,
    *,
    timeout_seconds: float | None = None,
    can_stop: bool = True,
) -> None:
    """Run apt-get, and repeat it while another process holds a lock that it needs."""
    wait = apt.LockWait(lambda holder: step.now(f"waiting for {holder}, which uses apt"))
    env = os.environ | proxies.of_environment() | apt.ENVIRONMENT
    step.now(doing)
    while True:
        try:
            process.run(command, env=env, timeout_seconds=timeout_seconds, can_stop=can_stop)
            return
        except CommandFailed as error:
            if not wait.should_repeat(error.errors):
                raise
        process.pause(apt.LOCK_PAUSE_SECONDS)


def offers(package: str) -> bool:
    """Return whether apt's package lists, which must be fresh, contain a package of this name."""
    try:
        return bool(process.run(["apt-cache", "show", "--no-all-versions", package], timeout_seconds=30))
    except CommandFailed:
        return False


def _lists_are_fresh() -> bool:
    """Return whether the lists are recent. Images often have none, and half the URLs in old lists are gone."""
    lists = list(_LISTS.glob("*_Packages*")) if _LISTS.is_dir() else []
    return any(path.stat().st_mtime > time.time() - _FRESH_SECONDS for path in lists)
