"""Where the base image is taken from; no engine of this machine is asked."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from infra.spec.world import World
from ops.errors import OpsError
from ops.toolchain import base_image, debian
from ops.toolchain.docker_engine import Engine, host_arch
from ops.toolchain.inventory import Source
from ops.toolchain.progress import Progress

Program = Callable[[Path, str], Path]
HERE = Engine("20.10.24", host_arch())

# `docker image inspect` knows the image once the file `image` is there, which pull and import make.
DOCKER = """
case "$1" in
image) [ -e {path}/image ] && echo sha256:0123456789abcdef || exit 1 ;;
pull) {pull} ;;
import) [ -s "$4" ] && : > {path}/image ;;
esac
"""
REFUSED = "echo 'dial tcp: lookup registry: no such host' >&2; exit 1"


@pytest.fixture
def docker(path: Path, program: Program) -> Callable[[str], None]:
    def make(pull: str) -> None:
        program(path / "docker", DOCKER.format(path=path, pull=pull))

    return make


@pytest.fixture
def mmdebstrap(path: Path, program: Program) -> Path:
    return program(path / "mmdebstrap", 'echo rootfs > "$3"; echo "$@" > ' + str(path / "made"))


def test_an_image_that_is_there_is_not_pulled(
    world: World, progress: Progress, path: Path, docker: Callable[[str], None]
) -> None:
    docker("exit 9")
    (path / "image").touch()
    tool = base_image.ensure(world, HERE, progress)
    assert (tool.source, tool.version) == (Source.CACHED, "0123456789ab")


def test_an_image_that_can_be_pulled_is_pulled(
    world: World, progress: Progress, path: Path, docker: Callable[[str], None]
) -> None:
    docker(f": > {path}/image")
    assert base_image.ensure(world, HERE, progress).source is Source.DOWNLOADED


@pytest.mark.usefixtures("mmdebstrap")
def test_where_no_registry_is_reached_it_is_made_from_packages(
    world: World, progress: Progress, said: StringIO, path: Path, docker: Callable[[str], None]
) -> None:
    docker(REFUSED)
    assert base_image.ensure(world, HERE, progress).source is Source.BUILT
    assert (path / "made").read_text().startswith("--variant=apt bookworm ")
    assert "made from Debian's packages" in said.getvalue()
    assert not (world.cache_dir / "base-image").exists()


@pytest.mark.usefixtures("mmdebstrap")
def test_a_registry_that_swallows_packets_is_given_up(
    world: World, progress: Progress, docker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_image, "PULL_SILENCE_SECONDS", 0.3)
    docker("exec sleep 30")
    assert base_image.ensure(world, HERE, progress).source is Source.BUILT


def test_without_registry_and_packages_the_line_says_why(
    world: World,
    progress: Progress,
    docker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
) -> None:
    docker(REFUSED)
    monkeypatch.setattr(debian, "can_install", lambda: False)
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(
        OpsError, match=r"cannot be pulled \(dial tcp: .*no such host\); make a registry reachable"
    ):
        base_image.ensure(world, HERE, progress)


@pytest.mark.usefixtures("mmdebstrap")
def test_no_image_is_made_for_another_architecture(
    world: World, progress: Progress, docker: Callable[[str], None]
) -> None:
    docker(REFUSED)
    with pytest.raises(OpsError, match="nor made on this machine for riscv64"):
        base_image.ensure(world, Engine("27", "riscv64"), progress)


def test_a_failed_bootstrap_leaves_no_image_and_no_archive(
    world: World, progress: Progress, path: Path, docker: Callable[[str], None], program: Program
) -> None:
    docker(REFUSED)
    program(path / "mmdebstrap", "echo 'E: apt-get update failed' >&2; exit 25")
    with pytest.raises(OpsError, match=r"nor made from Debian's packages \(E: apt-get update failed\)"):
        base_image.ensure(world, HERE, progress)
    assert not (path / "image").exists()
    assert [p.name for p in world.cache_dir.iterdir()] == ["locks"]
