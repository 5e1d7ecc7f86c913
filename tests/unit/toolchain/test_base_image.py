"""The source of the base image. The machine's Docker engine is not used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from infra.images.context import BASE_REFERENCE
from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import base_image, debian
from ops.toolchain.disk import DiskFullError
from ops.toolchain.docker_engine import Engine, host_arch
from ops.toolchain.inventory import ToolSource
from ops.toolchain.progress import Progress
from tests.promises import promise

Program = Callable[[Path, str], Path]
HERE = Engine("20.10.24", host_arch())

# `docker image inspect` finds the image once the file `image`, with its architecture, exists. tag and import create it.
DOCKER = """
arch=${{DOCKER_DEFAULT_PLATFORM:-{arch}}}
case "$1" in
image) [ -e {path}/image ] && echo sha256:0123456789abcdef $(cat {path}/image) || exit 1 ;;
pull) {pull} && echo $arch > {path}/pulled ;;
tag) cp {path}/pulled {path}/image ;;
import) [ -s "$4" ] && echo $arch > {path}/image ;;
esac
"""
REFUSED = "echo 'dial tcp: lookup registry: no such host' >&2; exit 1"


@pytest.fixture
def docker(path: Path, program: Program) -> Callable[[str], None]:
    def make(pull: str) -> None:
        program(path / "docker", DOCKER.format(path=path, pull=pull, arch=HERE.arch))

    return make


@pytest.fixture
def mmdebstrap(path: Path, program: Program) -> Path:
    return program(path / "mmdebstrap", 'echo rootfs > "$3"; echo "$@" > ' + str(path / "made"))


def test_an_existing_image_is_not_pulled(
    checkout: Checkout, progress: Progress, path: Path, docker: Callable[[str], None]
) -> None:
    docker("exit 9")
    (path / "image").write_text(HERE.arch)
    tool = base_image.ensure(checkout, HERE, progress)
    assert (tool.source, tool.version) == (ToolSource.CACHED, "0123456789ab")


@promise("the base image is pulled by its digest")
def test_an_image_that_can_be_pulled_is_pulled_by_its_digest(
    checkout: Checkout, progress: Progress, path: Path, docker: Callable[[str], None]
) -> None:
    docker(f'[ "$2" = {BASE_REFERENCE} ]')
    assert base_image.ensure(checkout, HERE, progress).source is ToolSource.DOWNLOADED


@promise("every image is for the engine's architecture, whatever DOCKER_DEFAULT_PLATFORM says")
@pytest.mark.usefixtures("mmdebstrap")
@pytest.mark.parametrize("pull", ["true", REFUSED], ids=["pulled", "built"])
def test_the_image_is_for_the_engines_architecture(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    docker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    pull: str,
) -> None:
    """Neither the user's default platform nor an image that was loaded for another machine changes it."""
    docker(pull)
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "riscv64")
    (path / "image").write_text("riscv64")
    base_image.ensure(checkout, HERE, progress)
    assert (path / "image").read_text().strip() == HERE.arch


@promise("what cannot be downloaded is built")
@pytest.mark.usefixtures("mmdebstrap")
def test_without_a_reachable_registry_the_image_is_built_from_packages(
    checkout: Checkout, progress: Progress, said: StringIO, path: Path, docker: Callable[[str], None]
) -> None:
    docker(REFUSED)
    assert base_image.ensure(checkout, HERE, progress).source is ToolSource.BUILT
    assert (path / "made").read_text().startswith("--variant=apt bookworm ")
    assert "built from Debian's packages" in said.getvalue()
    assert not (checkout.cache_dir / "base-image").exists()


@pytest.mark.usefixtures("mmdebstrap")
def test_an_unresponsive_registry_times_out(
    checkout: Checkout, progress: Progress, docker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_image, "PULL_SILENCE_SECONDS", 0.3)
    docker("exec sleep 30")
    assert base_image.ensure(checkout, HERE, progress).source is ToolSource.BUILT


def test_the_reason_of_a_failed_pull_is_that_of_stderr(
    checkout: Checkout,
    progress: Progress,
    docker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
) -> None:
    docker("echo 'no such host' >&2; sleep 0.3; echo 'Pulling from library/debian'; exit 1")
    monkeypatch.setattr(debian, "can_install", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(OpsError, match=r"cannot pull .* \(no such host\); "):
        base_image.ensure(checkout, HERE, progress)


def test_without_registry_and_packages_the_error_gives_the_reasons(
    checkout: Checkout,
    progress: Progress,
    docker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
) -> None:
    docker(REFUSED)
    monkeypatch.setattr(debian, "can_install", lambda: False)
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(
        OpsError, match=r"cannot pull .* \(dial tcp: .*no such host\); make a registry reachable"
    ):
        base_image.ensure(checkout, HERE, progress)


@pytest.mark.usefixtures("mmdebstrap")
def test_an_image_for_another_architecture_is_not_built(
    checkout: Checkout, progress: Progress, docker: Callable[[str], None]
) -> None:
    docker(REFUSED)
    with pytest.raises(OpsError, match="nor build it for riscv64 on this machine"):
        base_image.ensure(checkout, Engine("27", "riscv64"), progress)


def test_a_failed_bootstrap_leaves_no_image_and_no_archive(
    checkout: Checkout, progress: Progress, path: Path, docker: Callable[[str], None], program: Program
) -> None:
    docker(REFUSED)
    program(path / "mmdebstrap", "echo 'E: apt-get update failed' >&2; exit 25")
    with pytest.raises(OpsError, match=r"nor build it from Debian's packages \(E: apt-get update failed\)"):
        base_image.ensure(checkout, HERE, progress)
    assert not (path / "image").exists()
    assert [p.name for p in checkout.cache_dir.iterdir()] == ["locks"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which mmdebstrap may unpack, in place of /tmp and /var/tmp. TMPDIR is not set."""
    folders = [tmp_path / name for name in ("tmp", "var-tmp")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(base_image, "_TEMPORARY", folders)
    return folders


def fill(monkeypatch: pytest.MonkeyPatch, *full: Path) -> None:
    """Leave no free space in these folders."""
    real = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: real(path)._replace(free=0) if path in full else real(path)
    )


def test_a_full_temporary_folder_is_not_used(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    docker: Callable[[str], None],
    program: Program,
    temporary: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docker(REFUSED)
    program(path / "mmdebstrap", f'echo rootfs > "$3"; echo "$TMPDIR" > {path}/made')
    fill(monkeypatch, temporary[0])
    base_image.ensure(checkout, HERE, progress)
    assert (path / "made").read_text() == f"{temporary[1]}\n"


def noexec(monkeypatch: pytest.MonkeyPatch, *mounted: Path) -> None:
    """Mount these folders with noexec."""
    real = os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        found = list(real(path))
        found[8] = os.ST_NOEXEC if path in mounted else 0
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)


def test_a_temporary_folder_that_is_mounted_with_noexec_is_not_used(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    docker: Callable[[str], None],
    program: Program,
    temporary: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docker(REFUSED)
    program(path / "mmdebstrap", f'echo rootfs > "$3"; echo "$TMPDIR" > {path}/made')
    noexec(monkeypatch, *temporary)
    with pytest.raises(OpsError, match=f"in {temporary[0]}, which is mounted with noexec; set TMPDIR to"):
        base_image.ensure(checkout, HERE, progress)
    assert not (path / "made").exists()
    noexec(monkeypatch, temporary[0])
    base_image.ensure(checkout, HERE, progress)
    assert (path / "made").read_text() == f"{temporary[1]}\n"


@pytest.mark.parametrize("is_given", [False, True], ids=["/tmp", "TMPDIR"])
def test_without_space_for_unpacking_nothing_is_built(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    docker: Callable[[str], None],
    program: Program,
    temporary: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    is_given: bool,
) -> None:
    docker(REFUSED)
    program(path / "mmdebstrap", f"touch {path}/made")
    fill(monkeypatch, *(temporary[1:] if is_given else temporary))
    if is_given:
        # The user's choice is not replaced by another folder.
        monkeypatch.setenv("TMPDIR", str(temporary[1]))
    wanted = temporary[1] if is_given else temporary[0]
    with pytest.raises(DiskFullError, match=f"needs 0.5 GB in {wanted}, which has 0.0 GB free; free space"):
        base_image.ensure(checkout, HERE, progress)
    assert not (path / "made").exists()


@pytest.mark.parametrize(
    "words",
    [
        "dpkg: error: failed to write (No space left on device)",
        "E: You don't have enough free space in /tmp/mmdebstrap.x/var/cache/apt/archives/.",
        "tar: x: Cannot write: Disk quota exceeded",
    ],
)
def test_a_disk_that_fills_while_it_is_unpacked_is_reported(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    docker: Callable[[str], None],
    program: Program,
    temporary: list[Path],
    words: str,
) -> None:
    docker(REFUSED)
    program(path / "mmdebstrap", f'echo "{words}" >&2; echo "E: apt-get failed" >&2; exit 25')
    with pytest.raises(DiskFullError, match=f"in {temporary[0]}, which has"):
        base_image.ensure(checkout, HERE, progress)


def test_a_full_disk_of_the_engine_is_reported(
    checkout: Checkout, progress: Progress, path: Path, program: Program
) -> None:
    program(path / "mmdebstrap", 'echo rootfs > "$3"')
    full = "write /var/lib/docker/x: no space left on device"
    program(path / "docker", f'[ "$1" = import ] && echo "{full}" >&2; exit 1')
    with pytest.raises(OpsError, match=r"the Docker engine's disk is full \(write /var/lib/docker/x"):
        base_image.ensure(checkout, HERE, progress)
