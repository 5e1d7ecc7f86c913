"""When a Docker engine is taken, started, installed or refused; no engine of this machine is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.spec.world import World
from ops.toolchain import debian, docker_engine
from ops.toolchain.docker_engine import Engine, NoEngineError
from ops.toolchain.inventory import Source
from ops.toolchain.progress import Progress

Program = Callable[[Path, str], Path]
DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


@pytest.fixture(autouse=True)
def machine(path: Path, monkeypatch: pytest.MonkeyPatch, program: Program) -> None:
    """A Debian without Docker and without systemd, on which we are root; apt is not to be called."""
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker_engine, "INSTALLED_PATH", str(path))
    monkeypatch.setattr(docker_engine, "has_systemd", lambda: False)
    monkeypatch.setattr(docker_engine, "START_SECONDS", 5)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian, "can_install", lambda: True)
    monkeypatch.setattr(debian, "offers", lambda _package: False)
    monkeypatch.setattr(debian, "install", lambda *_: pytest.fail("something was installed"))


def answers(path: Path, program: Program) -> None:
    program(path / "docker", "echo 27.1.1 arm64")


def silent(path: Path, program: Program, words: str = DOWN) -> None:
    """A docker command whose engine answers once the file `up` is there."""
    program(
        path / "docker", f"[ -e {path}/up ] && echo 27.1.1 arm64 && exit\necho '{words}' >&2; exit 1"
    )  # fmt: skip


def dockerd(path: Path, program: Program, body: str = "") -> None:
    program(path / "iptables", "")
    program(path / "dockerd", body or f": > {path}/up; PATH=/usr/bin:/bin exec sleep 5")


def test_an_engine_that_answers_is_left_alone(
    world: World, progress: Progress, path: Path, program: Program
) -> None:
    answers(path, program)
    engine, tool = docker_engine.ensure(world, progress)
    assert (engine, tool.source) == (Engine("27.1.1", "arm64"), Source.FOUND)


def test_an_installed_engine_that_does_not_run_is_started(
    world: World, progress: Progress, path: Path, program: Program
) -> None:
    silent(path, program)
    dockerd(path, program)
    assert docker_engine.ensure(world, progress)[1].source is Source.STARTED


def test_a_docker_command_alone_is_no_engine_and_the_rest_is_installed(
    world: World, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(path, program)
    installed: list[str] = []

    def install(packages: list[str], _step: object) -> None:
        installed.extend(packages)
        dockerd(path, program)

    monkeypatch.setattr(debian, "install", install)
    assert docker_engine.ensure(world, progress)[1].source is Source.INSTALLED
    assert installed == ["docker.io", "iptables"]


def test_only_what_is_missing_is_installed(path: Path, program: Program) -> None:
    program(path / "dockerd", "")
    program(path / "docker", "")
    assert docker_engine.missing_packages() == ["iptables"]


def test_the_split_off_docker_command_is_installed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "offers", lambda package: package == "docker-cli")
    assert docker_engine.missing_packages() == ["docker.io", "iptables", "docker-cli"]


def test_an_engine_that_fails_to_start_shows_its_last_words(
    world: World, progress: Progress, path: Path, program: Program
) -> None:
    silent(path, program)
    dockerd(path, program, "echo 'failed to start daemon: no space' >&2; echo 'level=info noise' >&2; exit 1")
    with pytest.raises(
        NoEngineError, match=r"exit code 1 \(failed to start daemon: no space\); see .*dockerd.log"
    ):
        docker_engine.ensure(world, progress)


def test_an_engine_that_never_answers_is_given_up(
    world: World, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "START_SECONDS", 1)
    silent(path, program)
    dockerd(path, program, "PATH=/usr/bin:/bin exec sleep 5")
    with pytest.raises(NoEngineError, match=r"no engine answers within 1\.0 s"):
        docker_engine.ensure(world, progress)


def test_an_engine_named_by_docker_host_is_never_started_or_installed(
    world: World, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(path, program)
    dockerd(path, program)
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    with pytest.raises(NoEngineError, match=r"DOCKER_HOST=tcp://10\.0\.0\.1:2375"):
        docker_engine.ensure(world, progress)
    assert not (path / "up").exists()


@pytest.mark.parametrize("has_dockerd", [True, False])
def test_without_root_the_line_says_what_to_do(
    world: World,
    progress: Progress,
    path: Path,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    has_dockerd: bool,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if has_dockerd:
        dockerd(path, program)
    what = "start it" if has_dockerd else "apt-get install docker.io iptables"
    with pytest.raises(NoEngineError, match=f"only root can change that; .*{what}") as refusal:
        docker_engine.ensure(world, progress)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code != 0


def test_a_user_outside_the_docker_group_is_told_so(
    world: World, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    silent(path, program, "permission denied while trying to connect to the Docker daemon socket")
    with pytest.raises(NoEngineError, match="usermod -aG docker"):
        docker_engine.ensure(world, progress)


def test_elsewhere_than_on_debian_nothing_is_installed(
    world: World, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "can_install", lambda: False)
    with pytest.raises(NoEngineError, match="this is not Debian; install Docker by hand"):
        docker_engine.ensure(world, progress)
