"""A full disk: checked before the work, and reported with the folder and the required space if it fills later."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ops.toolchain import disk, process
from ops.toolchain.disk import DiskFullError
from ops.toolchain.process import CommandFailed

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
