"""Download the wheels of an image's lock file, for CPython 3.11 on Linux. Installs nothing.

The host downloads them, because pip inside the image build does not have the host's proxy settings and private CAs.
Uses the standard library only, because the Pulumi program calls it too.
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

from infra.images.pip_environment import pip_environment
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError

LOCK = Path(__file__).parent / "access" / "requirements.lock"
AWS_LOCK = LOCK.with_name("requirements-aws.lock")
PATRONI_LOCK = LOCK.parents[1] / "patroni" / LOCK.name
LOCKS = (LOCK, AWS_LOCK, PATRONI_LOCK)
PYTHON = "3.11"
# Debian 12 has glibc 2.36. pip needs every accepted platform tag on its command line, the newest first.
GLIBC_MINORS = (36, 35, 34, 31, 28, 27, 26, 24, 17)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class WheelhouseError(InfraError):
    """An image's wheels cannot be downloaded or stored."""


def folder(checkout: Checkout, arch: str, lock: Path = LOCK) -> Path:
    """Return the folder for the wheels of `lock` and an engine's architecture (amd64, arm64). It may not exist yet."""
    if arch not in MACHINES:
        raise WheelhouseError(f"no wheels for an engine on {arch}; use an engine on {' or '.join(MACHINES)}")
    digest = hashlib.sha256(lock.read_bytes() + arch.encode()).hexdigest()[:16]
    return checkout.cache_dir / "wheelhouse" / digest


def ensure(checkout: Checkout, arch: str, lock: Path = LOCK) -> Path:
    """Return the folder of the wheels, and download them if they are not in the cache. Raises WheelhouseError.

    The folder is created atomically. If two processes race, both download, and one uses the other's folder.
    """
    target = folder(checkout, arch, lock)
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
        wanted.write_text(without_markers(lock.read_text(encoding="utf-8")), encoding="utf-8")
        _download(wanted, wheels, arch)
        _publish(wheels, target)
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def without_markers(lock: str) -> str:
    """Return the lock with every requirement made unconditional.

    pip evaluates markers for the Python that it runs on, not for the image's, and would skip packages that the image
    needs. Superfluous wheels do no harm, because pip in the image evaluates the markers again.
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
    ended = subprocess.run(
        command,
        env=pip_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines() or ["no reason given"]
        if any(os.strerror(errno.ENOSPC) in line for line in said):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise WheelhouseError(
            f"pip cannot download the images' wheels: {said[-1]}; "
            "check that the package index is reachable, and run the same command again"
        )


def _publish(wheels: Path, target: Path) -> None:
    try:
        wheels.rename(target)
    except OSError:
        # Another process was first. The same lock gives the same wheels.
        if not target.is_dir():
            raise


def _refusal(target: Path, error: OSError) -> WheelhouseError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WheelhouseError(
            f"the images' wheels need 0.1 GB in {target.parent}, which is full; "
            "make room there, and run the same command again"
        )
    return WheelhouseError(f"cannot store the images' wheels in {target.parent}: {error.strerror}")
