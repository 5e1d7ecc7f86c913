"""A pytest plugin that runs tests against images for arm64, which qemu emulates: `pytest -p tests.arm64 PATHS`.

Needs root, and mmdebstrap for the base image. Everything in a container is a program for arm64. Python, the tests and
the Docker engine are this machine's own. Do not add `-n`: xdist's workers do not load the plugin.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from infra.docker.engine import docker, inspect, server
from infra.images import build, context

BASE = f"groundwork-test/arm64-base:{context.BASE_IMAGE.rpartition(':')[2]}"
_HANDLERS = Path("/proc/sys/fs/binfmt_misc")
# The beginning of an ELF file for arm64, and the bits of it that count: those of Debian's package qemu-user-static.
_MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Prints the program. Nothing is installed on this machine.
_QEMU = """
cd "$(mktemp -d)" && exec 3>&1 >&2
apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root qemu-user-static
dpkg --fsys-tarfile qemu-user-static_*.deb | tar --extract --to-stdout ./usr/bin/qemu-aarch64-static >&3
"""
_session = ExitStack()


def missing() -> str:
    """Return why programs for arm64 cannot be emulated here, or an empty text."""
    if platform.machine() != "x86_64":
        return "qemu is downloaded for x86-64 only"
    if os.geteuid() != 0:
        return "registering qemu with the kernel needs root"
    if not (_HANDLERS / "register").exists():
        return f"the kernel has no binfmt_misc at {_HANDLERS}"
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is not installed"
    return ""


@contextmanager
def emulation() -> Iterator[None]:
    """Let the kernel run programs for arm64, in containers too, until the block ends."""
    name = f"groundwork-arm64-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="gw-test-") as folder:
        qemu = Path(folder) / "qemu"
        with qemu.open("wb") as opened:
            run = ("docker", "run", "--rm", "--init", "--network=host", context.BASE_IMAGE)
            subprocess.run([*run, "sh", "-euc", _QEMU], stdout=opened, check=True, timeout=600)
        qemu.chmod(0o755)
        # P keeps a program's own argv[0]. With F the kernel opens qemu now, so that containers need no copy of it.
        (_HANDLERS / "register").write_text(f":{name}:M::{_MAGIC}:{_MASK}:{qemu}:PF")
        try:
            yield
        finally:
            (_HANDLERS / name).write_text("-1")


def ensure_base() -> None:
    """Build the base image for arm64 from the same packages as the toolchain does for the engine's architecture."""
    if inspect("image", BASE):
        return
    with tempfile.TemporaryDirectory(prefix="gw-test-") as folder:
        archive = Path(folder) / "rootfs.tar"
        # mmdebstrap's own check needs the package arch-test.
        options = ("--quiet", "--variant=apt", "--architectures=arm64", "--skip=check/qemu")
        subprocess.run(["mmdebstrap", *options, "bookworm", str(archive)], check=True, timeout=1800)
        # Without a platform, because every engine builds from and runs an image that has its own.
        docker("import", str(archive), BASE, timeout_seconds=600)


def pytest_configure() -> None:
    if reason := missing():
        raise pytest.UsageError(f"tests.arm64: {reason}")
    _session.enter_context(emulation())
    ensure_base()
    # Part of every image's digest, so that no image for this machine is replaced.
    patch = _session.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(context, "BASE_REFERENCE", BASE)
    patch.setattr(build, "BASE_IMAGE", BASE)
    patch.setattr(context, "server", lambda: replace(server(), arch="arm64"))


def pytest_unconfigure() -> None:
    _session.close()
