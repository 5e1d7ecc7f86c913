"""Where Go is taken from, and how a build with it shows and fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.spec.world import World
from ops.errors import OpsError
from ops.toolchain import golang
from ops.toolchain.disk import DiskFullError
from ops.toolchain.golang import Go, Whole
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.progress import Progress, Step

Program = Callable[[Path, str], Path]


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    made: list[Path] = []

    def download(target: Path, _progress: Progress) -> None:
        made.append(target)
        (target / "go" / "bin").mkdir(parents=True)
        (target / "go" / "bin" / "go").touch()

    monkeypatch.setattr(golang, "_download", download)
    return made


@pytest.mark.parametrize("version", ["go1.25.11", "go1.26", "go1.30.1"])
def test_a_go_that_is_new_enough_is_taken(
    world: World, progress: Progress, path: Path, program: Program, downloads: list[Path], version: str
) -> None:
    command = program(path / "go", f"echo go version {version} linux/amd64")
    go = golang.find(world, progress)
    assert (go.command, go.tool.source) == (command, Source.FOUND)
    assert downloads == []


@pytest.mark.parametrize("version", ["go1.25.10", "go1.19.8", "devel +a1b2c3"])
def test_a_go_that_is_too_old_is_passed_over(
    world: World, progress: Progress, path: Path, program: Program, downloads: list[Path], version: str
) -> None:
    program(path / "go", f"echo go version {version} linux/amd64")
    assert golang.find(world, progress).tool.source is Source.DOWNLOADED


def test_a_go_that_was_downloaded_is_downloaded_once(
    world: World, progress: Progress, path: Path, monkeypatch: pytest.MonkeyPatch, downloads: list[Path]
) -> None:
    monkeypatch.setenv("PATH", str(path))
    golang.find(world, progress)
    assert golang.find(world, progress).tool.source is Source.CACHED
    assert len(downloads) == 1


def test_the_users_go_settings_are_kept_but_for_what_makes_another_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"GOPROXY": "file:///mirror", "GOFLAGS": "-buildvcs=false", "GOOS": "plan9"}.items():
        monkeypatch.setenv(name, value)
    env = golang.environment(tmp_path)
    assert (env["GOPROXY"], env["GOFLAGS"]) == ("file:///mirror", "-buildvcs=false")
    assert "GOOS" not in env
    assert (env["GOTOOLCHAIN"], env["GOWORK"]) == ("local", "off")


FAKE_GO = """
case "$1" in
env) echo {caches}/modules; echo {caches}/packages ;;
list) echo "go: downloading example.org/a v1.0.0" >&2; echo a; echo b/c; echo d ;;
build) {build} ;;
esac
"""


def build(tmp_path: Path, program: Program, body: str) -> Step:
    command = program(tmp_path / "go", FAKE_GO.format(caches=tmp_path, build=body))
    out = tmp_path / "out"
    out.mkdir()
    step = Step("the thing", "preparing")
    go = Go(command, Tool("Go", "1.26.6", Source.FOUND, str(command)))
    golang.build(
        go, tmp_path, ".", out / "thing", tags=("x",), ldflags="-s", step=step, whole=Whole(3, 60)
    )  # fmt: skip
    return step


def test_a_build_counts_what_is_compiled_of_what_has_to_be(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    step = build(tmp_path, program, "echo a >&2; echo b/c >&2; echo '# warning: something' >&2")
    assert str(step).endswith("of about 1:00 min, 2 of 3 packages")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failed_build_is_one_line_and_leaves_no_scratch_folder(tmp_path: Path, program: Program) -> None:
    with pytest.raises(OpsError, match=r"cannot build the thing .*: dial tcp: no such host; check"):
        build(tmp_path, program, "echo 'dial tcp: no such host' >&2; exit 1")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_up_names_gos_cache(tmp_path: Path, program: Program) -> None:
    with pytest.raises(DiskFullError, match=r"\(GOCACHE\) needs .* GB in .*/packages"):
        build(tmp_path, program, "echo 'link: mapping failed: No space left on device' >&2; exit 1")


@pytest.mark.parametrize(("packages", "cores", "seconds"), [(1500, 2, 100), (1500, 8, 40), (0, 2, 20)])
def test_a_build_is_expected_to_take_what_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch, packages: int, cores: int, seconds: float
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert Whole(1500, 100).seconds_for(packages) == pytest.approx(seconds)
