"""The wheels of the access image: which ones are requested, and that their folder is complete or missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.images import wheelhouse
from infra.images.wheelhouse import WheelhouseError
from infra.spec.checkout import Checkout

LOCK = """\
anyio==4.16.0 \\
    --hash=sha256:59bb
async-timeout==5.0.1 ; python_full_version < '3.11.3' \\
    --hash=sha256:3935 \\
    --hash=sha256:d932
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(LOCK)
    return path


class Pip:
    """Replaces pip: records its arguments, writes a wheel, and exits as configured."""

    def __init__(self, code: int = 0, stderr: str = "") -> None:
        self.code, self.stderr = code, stderr
        self.calls: list[list[str]] = []
        self.wanted = ""

    def __call__(
        self, command: list[str], *, env: dict[str, str], **_how: object
    ) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        self.env = env
        self.wanted = Path(command[command.index("--requirement") + 1]).read_text()
        (Path(command[command.index("--dest") + 1]) / "anyio.whl").touch()
        return subprocess.CompletedProcess(command, self.code, "", self.stderr)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    pretended = Pip()
    monkeypatch.setattr(subprocess, "run", pretended)
    return pretended


def test_wheels_are_downloaded_once(checkout: Checkout, lock: Path, pip: Pip) -> None:
    folder = wheelhouse.ensure(checkout, "amd64", lock)
    assert wheelhouse.ensure(checkout, "amd64", lock) == folder
    assert len(pip.calls) == 1
    assert [path.name for path in folder.iterdir()] == ["anyio.whl"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_constraint_of_the_user_does_not_change_the_wheels(
    checkout: Checkout, lock: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "/opt/constraints.txt")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index")
    wheelhouse.ensure(checkout, "amd64", lock)
    assert "PIP_CONSTRAINT" not in pip.env
    assert pip.env["PIP_INDEX_URL"] == "https://index"


@pytest.mark.parametrize(("arch", "machine"), [("amd64", "x86_64"), ("arm64", "aarch64")])
def test_wheels_match_the_engines_architecture(
    checkout: Checkout, lock: Path, pip: Pip, arch: str, machine: str
) -> None:
    wheelhouse.ensure(checkout, arch, lock)
    platforms = [word for word in pip.calls[0] if word.startswith("manylinux")]
    assert platforms
    assert all(platform.endswith(machine) for platform in platforms)


def test_packages_do_not_depend_on_the_python_that_downloads_them(
    checkout: Checkout, lock: Path, pip: Pip
) -> None:
    wheelhouse.ensure(checkout, "amd64", lock)
    assert pip.wanted == LOCK.replace(" ; python_full_version < '3.11.3'", "")


def test_another_lock_or_architecture_is_another_folder(checkout: Checkout, lock: Path) -> None:
    first = wheelhouse.folder(checkout, "amd64", lock)
    assert wheelhouse.folder(checkout, "arm64", lock) != first
    lock.write_text(LOCK + "h11==0.16.0\n")
    assert wheelhouse.folder(checkout, "amd64", lock) != first


def test_a_failed_download_is_one_line_and_leaves_no_folder(
    checkout: Checkout, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(1, "noise\nERROR: No matching distribution found for anyio"))
    with pytest.raises(WheelhouseError, match="No matching distribution found for anyio; check"):
        wheelhouse.ensure(checkout, "amd64", lock)
    assert list((checkout.cache_dir / "wheelhouse").iterdir()) == []


def test_a_full_disk_is_named(checkout: Checkout, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(subprocess, "run", Pip(1, full))
    with pytest.raises(WheelhouseError, match="wheelhouse, which is full"):
        wheelhouse.ensure(checkout, "amd64", lock)


def test_the_second_process_uses_what_the_first_published(
    checkout: Checkout, lock: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = wheelhouse.folder(checkout, "amd64", lock)

    def run(command: list[str], **_how: object) -> subprocess.CompletedProcess[str]:
        target.mkdir(parents=True)
        (target / "first.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert [path.name for path in wheelhouse.ensure(checkout, "amd64", lock).iterdir()] == ["first.whl"]


def test_an_architecture_without_wheels_is_refused(checkout: Checkout, lock: Path) -> None:
    with pytest.raises(
        WheelhouseError, match="no wheels for an engine on s390x; use an engine on amd64 or arm64"
    ):
        wheelhouse.ensure(checkout, "s390x", lock)
