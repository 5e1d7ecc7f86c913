"""A full disk: checked before the work, and reported with the folder and the required space if it fills later."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.toolchain import debian, disk, process
from ops.toolchain.disk import DiskFullError
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import ProgressStep

FULL = "go: writing stat cache: write /x: no space left on device"


def test_too_little_space_is_refused_with_folder_and_required_space(tmp_path: Path) -> None:
    wanted = tmp_path / "not" / "made" / "yet"
    with pytest.raises(DiskFullError, match=f"building needs 1e\\+06 GB in {wanted}, which has .* GB free"):
        disk.require(wanted, "building", 1_000_000)
    assert not wanted.exists()


def test_enough_space_passes(tmp_path: Path) -> None:
    disk.require(tmp_path, "building", 0.000_001)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_running_out_of_space_in_this_process_names_the_folder(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(DiskFullError, match="free space there") as full,
        disk.naming_a_full_disk(tmp_path, "x", 2),
    ):
        raise OSError(code, "whatever")
    assert full.value.folder == tmp_path
    assert full.value.needed_gib == 2


def test_a_program_that_runs_out_of_space_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), disk.naming_a_full_disk(tmp_path, "x", 2):
        process.run(["sh", "-c", f"echo '{FULL}' >&2; exit 1"])


def test_other_failures_are_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk.naming_a_full_disk(tmp_path, "x", 2):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(CommandFailed), disk.naming_a_full_disk(tmp_path, "x", 2):
        process.run(["false"])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "free space there"),
        ("E: Failed to fetch http://deb.debian.org/x", "check the network and apt's sources"),
    ],
)
def test_a_full_disk_of_apt_is_not_blamed_on_the_network(
    path: Path, program: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch, words: str, advice: str
) -> None:
    program(path / "apt-get", f'echo "{words}" >&2; exit 100')
    monkeypatch.setattr(debian, "_lists_are_fresh", lambda: True)
    with pytest.raises(OpsError) as refusal:
        debian.install(["docker.io"], ProgressStep("Docker engine", "starting"))
    assert str(refusal.value) == (
        f"apt-get cannot install docker.io: {words}; {advice}, and run the same command again"
    )
