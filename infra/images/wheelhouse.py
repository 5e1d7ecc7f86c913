"""The wheels of the access image, downloaded on the host from its lock file, for CPython 3.11 on Linux.

On the host, because pip inside an image's build knows neither the host's proxy nor its private CA. Standard
library only: the Pulumi program calls this too. Installs nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.spec.errors import InfraError
from infra.spec.world import World

LOCK = Path(__file__).parent / "access" / "requirements.lock"
PYTHON = "3.11"
# Debian 12 has glibc 2.36. pip wants each tag named that it may take, the newest first.
GLIBC_MINORS = (36, 35, 34, 31, 28, 27, 26, 24, 17)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class WheelhouseError(InfraError):
    """The access image's wheels cannot be had."""


def folder(world: World, arch: str, lock: Path = LOCK) -> Path:
    """Where the wheels of `lock` for an engine's architecture (amd64, arm64) lie, or will lie."""
    if arch not in MACHINES:
        raise WheelhouseError(f"no wheels for an engine on {arch}; use one on {' or '.join(MACHINES)}")
    digest = hashlib.sha256(lock.read_bytes() + arch.encode()).hexdigest()[:16]
    return world.cache_dir / "wheelhouse" / digest


def ensure(world: World, arch: str, lock: Path = LOCK) -> Path:
    """Download the wheels where they are not in the cache, and return their folder. Raises WheelhouseError.

    The folder appears whole or not at all; two processes at once do the work twice and agree on one result.
    """
    target = folder(world, arch, lock)
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".draft", dir=target.parent))
    except OSError as error:
        raise _refusal(target, error) from error
    try:
        wheels = draft / "wheels"
        wheels.mkdir()
        wanted = draft / "requirements.lock"
        wanted.write_text(without_markers(lock.read_text()))
        _download(wanted, wheels, arch)
        _publish(wheels, target)
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def without_markers(lock: str) -> str:
    """The lock with every requirement unconditional.

    pip judges markers by the Python it runs on, not by the image's: a package needed there would be left out.
    One too many in the wheelhouse does no harm, the image's own pip picks.
    """
    return re.sub(r"^([A-Za-z0-9][^\s;]*)[ \t]*;[^\\\n]*", r"\1 ", lock, flags=re.MULTILINE)


def _download(lock: Path, wheels: Path, arch: str) -> None:
    machine = MACHINES[arch]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine}"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command += ["--only-binary=:all:", "--no-deps", "--require-hashes", "--implementation", "cp"]
    command += ["--python-version", PYTHON, "--dest", str(wheels), "--requirement", str(lock)]
    command += [part for platform in platforms for part in ("--platform", platform)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines() or ["no reason given"]
        if any(os.strerror(errno.ENOSPC) in line for line in said):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise WheelhouseError(
            f"pip cannot download the access image's wheels: {said[-1]}; "
            "check that the package index is reached and run the same command again"
        )


def _publish(wheels: Path, target: Path) -> None:
    try:
        wheels.rename(target)
    except OSError:
        # Another process was first: the same lock gives the same wheels.
        if not target.is_dir():
            raise


def _refusal(target: Path, error: OSError) -> WheelhouseError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WheelhouseError(
            f"the access image's wheels need 0.1 GB in {target.parent}, which is full; "
            "make room there and run the same command again"
        )
    return WheelhouseError(f"the access image's wheels cannot be kept in {target.parent}: {error.strerror}")
