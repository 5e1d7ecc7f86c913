"""When a Docker engine is used, started, installed or refused. The machine's own engine is not touched."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from infra.spec.variables import EmptyVariable
from ops.toolchain import debian, docker_engine
from ops.toolchain.docker_engine import Engine, NoEngineError
from ops.toolchain.inventory import ToolSource
from ops.toolchain.progress import Progress
from tests.cases import in_case
from tests.promises import promise

Program = Callable[[Path, str], Path]
ENGINE = {
    "Version": "27.1.1",
    "Arch": "arm64",
    "Os": "linux",
    "Components": [{"Name": "Engine", "Version": "27.1.1"}, {"Name": "containerd", "Version": "1.7.18"}],
}
# The answer of Podman 4.3 to Docker's command.
PODMAN = {
    "Version": "4.3.1",
    "Arch": "amd64",
    "Os": "linux",
    "Components": [{"Name": "Podman Engine", "Version": "4.3.1"}, {"Name": "Conmon", "Version": "2.1.6"}],
}
DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


@pytest.fixture(autouse=True)
def machine(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Debian without Docker and systemd, as root. Calling apt fails the test. Ends the dockerd that a test starts."""
    outliving: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(docker_engine, "_outliving", outliving)
    machine_of(path, monkeypatch)
    monkeypatch.setattr(debian, "can_install", lambda: True)
    monkeypatch.setattr(debian, "offers", lambda _package: False)
    monkeypatch.setattr(debian, "install", lambda *_: pytest.fail("something was installed"))
    yield
    for process in outliving:
        process.kill()
        process.wait()


def machine_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the machine's programs and Docker's configuration to `path`."""
    monkeypatch.setenv("PATH", str(path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(path / "docker-config"))
    monkeypatch.setattr(docker_engine, "INSTALLED_PATH", str(path))
    monkeypatch.setattr(docker_engine, "has_systemd", lambda: False)
    monkeypatch.setattr(docker_engine, "START_SECONDS", 5)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    certificates = path / "ca-certificates.crt"
    certificates.touch()
    monkeypatch.setattr(docker_engine, "CERTIFICATES", certificates)
    pid_files = {name: path / f"{name}.pid" for name in docker_engine.PID_FILES}
    monkeypatch.setattr(docker_engine, "PID_FILES", pid_files)
    monkeypatch.setattr(debian, "_LISTS", path / "lists-of-apt")


def answers(path: Path, program: Program, server: object = ENGINE) -> None:
    program(path / "docker", f"echo '{json.dumps(server)}'")


def silent(path: Path, program: Program, words: str = DOWN) -> None:
    """Create a docker command whose engine answers once the file `up` exists."""
    answer = f"[ -e {path}/up ] && echo '{json.dumps(ENGINE)}' && exit"
    program(path / "docker", f"{answer}\necho '{words}' >&2; exit 1")


def dockerd(path: Path, program: Program, body: str = "") -> None:
    program(path / "iptables", "")
    program(path / "dockerd", body or f": > {path}/up; PATH=/usr/bin:/bin exec sleep 5")


def test_without_a_home_directory_the_default_engine_is_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_123_456)
    assert docker_engine.selected() is None
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    assert docker_engine.selected_endpoint() is None


def test_a_running_engine_is_not_touched(
    checkout: Checkout, progress: Progress, path: Path, program: Program
) -> None:
    answers(path, program)
    engine, tool = docker_engine.ensure(checkout, progress)
    assert (engine, tool.source) == (Engine("27.1.1", "arm64"), ToolSource.FOUND)


@promise("`make up` needs nothing but Python, git, make and Docker, and installs Docker as root on Debian")
def test_an_installed_engine_that_is_not_running_is_started(
    checkout: Checkout, progress: Progress, path: Path, program: Program
) -> None:
    silent(path, program)
    dockerd(path, program)
    assert docker_engine.ensure(checkout, progress)[1].source is ToolSource.STARTED


@promise("`make up` needs nothing but Python, git, make and Docker, and installs Docker as root on Debian")
def test_with_only_a_docker_command_the_rest_is_installed(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(path, program)
    installed: list[str] = []

    def install(packages: Callable[[], list[str]], _step: object) -> None:
        installed.extend(packages())
        dockerd(path, program)

    monkeypatch.setattr(debian, "install", install)
    assert docker_engine.ensure(checkout, progress)[1].source is ToolSource.INSTALLED
    assert installed == ["docker.io", "iptables"]


def test_only_missing_packages_are_installed(path: Path, program: Program) -> None:
    program(path / "dockerd", "")
    program(path / "docker", "")
    assert docker_engine.packages() == ["iptables"]


@promise("Docker's packages are chosen after `apt-get update`, on Debian 12 and 13")
@pytest.mark.parametrize("has_dockerd", [True, False])
def test_on_debian_13_the_docker_command_is_a_separate_package(
    path: Path, program: Program, monkeypatch: pytest.MonkeyPatch, has_dockerd: bool
) -> None:
    monkeypatch.setattr(debian, "offers", lambda package: package == "docker-cli")
    if has_dockerd:
        dockerd(path, program)
        assert docker_engine.packages() == ["docker-cli"]
    else:
        assert docker_engine.packages() == ["docker.io", "iptables", "docker-cli"]


def test_certificates_are_installed_with_the_engine_that_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "CERTIFICATES", Path("/nowhere"))
    assert "ca-certificates" in docker_engine.packages()


@promise("Docker's packages are chosen after `apt-get update`, on Debian 12 and 13")
def test_apt_is_queried_only_after_an_update(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh image has no package lists, so apt-cache finds no package before the update."""
    monkeypatch.undo()
    machine_of(path, monkeypatch)
    program(path / "apt-cache", f"[ -e {path}/lists ] && echo Package: $3")
    program(
        path / "apt-get",
        f"""\
            case "$*" in
            *update*) : > {path}/lists ;;
            *install*)
                echo "$*" > {path}/asked
                printf '#!/bin/sh\\n: > {path}/up; PATH=/usr/bin:/bin exec sleep 5' > {path}/dockerd
                PATH=/usr/bin:/bin cp {path}/spare {path}/docker
                PATH=/usr/bin:/bin chmod 755 {path}/dockerd ;;
            esac""",
    )
    silent(path, program)
    (path / "docker").rename(path / "spare")
    assert docker_engine.ensure(checkout, progress)[1].source is ToolSource.INSTALLED
    assert "docker.io iptables docker-cli" in (path / "asked").read_text()


def test_an_engine_that_fails_to_start_shows_its_last_log_lines(
    checkout: Checkout, progress: Progress, path: Path, program: Program
) -> None:
    silent(path, program)
    dockerd(path, program, "echo 'failed to start daemon: no space' >&2; echo 'level=info noise' >&2; exit 1")
    with pytest.raises(
        NoEngineError, match=r"exited with code 1 \(failed to start daemon: no space\); see .*dockerd.log"
    ):
        docker_engine.ensure(checkout, progress)


@pytest.mark.parametrize("name", ["dockerd", "containerd"])
@pytest.mark.parametrize("content", ["own process", "0", "999999999999", "no number"])
def test_a_stale_pid_file_does_not_prevent_the_start(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    program: Program,
    name: str,
    content: str,
    said: StringIO,
) -> None:
    stale = path / f"{name}.pid"
    stale.write_text(str(os.getpid()) if content == "own process" else content)
    silent(path, program)
    dockerd(
        path,
        program,
        f"[ -e {stale} ] && echo 'pid file found' && exit 1; : > {path}/up; PATH=/usr/bin:/bin exec sleep 5",
    )
    assert docker_engine.ensure(checkout, progress)[1].source is ToolSource.STARTED
    assert f"removing {stale}" in said.getvalue()


def test_a_starting_dockerd_is_awaited_and_keeps_its_pid_file(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(path, program)
    dockerd(path, program, "exit 1")
    # The name of a process is the name of its file.
    running = program(path / "bin" / "dockerd", f"PATH=/usr/bin:/bin\nsleep 0.5; : > {path}/up; read _")
    with subprocess.Popen([running], stdin=subprocess.PIPE) as starting:
        (path / "dockerd.pid").write_text(str(starting.pid))
        assert docker_engine.ensure(checkout, progress)[1].source is ToolSource.STARTED
        assert (path / "dockerd.pid").exists()
        (path / "up").unlink()
        monkeypatch.setattr(docker_engine, "START_SECONDS", 0.5)
        with pytest.raises(NoEngineError, match=r"a dockerd is running already .*stop it and try again"):
            docker_engine.ensure(checkout, progress)
        starting.communicate()


def test_an_engine_that_never_answers_times_out(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "START_SECONDS", 1)
    silent(path, program)
    dockerd(path, program, "PATH=/usr/bin:/bin exec sleep 5")
    with pytest.raises(NoEngineError, match=r"no engine answers within 1\.0 s"):
        docker_engine.ensure(checkout, progress)


def test_only_an_engine_on_this_machine_is_accepted(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ports would be open on the other machine. 192.0.2.1 and .invalid belong to nobody."""
    answers(path, program)
    here = (
        "unix:///run/user/1000/docker.sock",
        "tcp://127.0.0.1:2375",
        "tcp://localhost:2375",
        "ssh://me@localhost",
    )
    for host in here:
        monkeypatch.setenv("DOCKER_HOST", host)
        with in_case(host):
            assert docker_engine.ensure(checkout, progress)[1].source is ToolSource.FOUND
    for host in (
        "tcp://192.0.2.1:2375",
        "ssh://me@192.0.2.1",
        "ssh://far.invalid",
        "tcp://[2001:db8::1]:2376",
    ):
        monkeypatch.setenv("DOCKER_HOST", host)
        with in_case(host), pytest.raises(NoEngineError, match=r"is on another machine.*unset DOCKER_HOST"):
            docker_engine.ensure(checkout, progress)
    monkeypatch.delenv("DOCKER_HOST")
    folder = path / "docker-config" / "contexts" / "meta" / "0"
    folder.mkdir(parents=True)
    described = {"Name": "far", "Endpoints": {"docker": {"Host": "ssh://me@192.0.2.1"}}}
    (folder / "meta.json").write_text(json.dumps(described))
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    with pytest.raises(
        NoEngineError, match=r"DOCKER_CONTEXT=far is on another machine.*unset DOCKER_CONTEXT"
    ):
        docker_engine.ensure(checkout, progress)


@promise("the engine that a context or variable selects is never replaced by another")
@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("DOCKER_HOST", "tcp://10.0.0.1:2375", "unset DOCKER_HOST"),
        ("DOCKER_CONTEXT", "colima", "unset DOCKER_CONTEXT"),
        (None, "colima", "docker context use default"),
    ],
)
def test_an_engine_that_the_user_selected_is_never_started_or_installed(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    value: str,
    advice: str,
) -> None:
    silent(path, program)
    dockerd(path, program)
    if variable is None:
        (path / "docker-config").mkdir()
        (path / "docker-config" / "config.json").write_text(json.dumps({"currentContext": value}))
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(NoEngineError, match=f"{value}.*{advice}"):
        docker_engine.ensure(checkout, progress)
    assert not (path / "up").exists()


def test_the_context_default_selects_the_engine_of_this_machine(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(path, program)
    dockerd(path, program)
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert docker_engine.ensure(checkout, progress)[1].source is ToolSource.STARTED


@pytest.mark.parametrize("name", ["DOCKER_HOST", "DOCKER_CONTEXT"])
def test_a_variable_that_selects_no_engine_is_refused(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    answers(path, program)
    monkeypatch.setenv(name, "")
    with pytest.raises(EmptyVariable, match=f"{name} is set but empty"):
        docker_engine.ensure(checkout, progress)


@promise("an engine that is not Docker's is refused in one line")
@pytest.mark.parametrize(
    ("server", "named"),
    [
        (PODMAN, "Podman Engine 4.3.1"),
        (ENGINE | {"Os": "windows"}, "a Docker engine for windows containers"),
        # Podman's own command under Docker's name, without a service.
        (None, "reports no Docker engine"),
    ],
)
def test_an_engine_that_is_not_dockers_is_refused_in_one_line(
    checkout: Checkout, progress: Progress, path: Path, program: Program, server: object, named: str
) -> None:
    answers(path, program, server)
    with pytest.raises(NoEngineError, match=named) as refusal:
        docker_engine.ensure(checkout, progress)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("has_dockerd", [True, False])
def test_without_root_the_error_says_what_to_do(
    checkout: Checkout,
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
        docker_engine.ensure(checkout, progress)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code != 0


def test_a_user_outside_the_docker_group_gets_an_explanation(
    checkout: Checkout, progress: Progress, path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    silent(path, program, "permission denied while trying to connect to the Docker daemon socket")
    with pytest.raises(NoEngineError, match="usermod -aG docker"):
        docker_engine.ensure(checkout, progress)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("permission denied while trying to connect to the docker API", "usermod -aG docker"),
        (DOWN, r"\(no engine answers\)"),
    ],
)
def test_the_reason_why_no_engine_answers_is_not_the_null_on_stdout(
    checkout: Checkout,
    progress: Progress,
    path: Path,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
    message: str,
) -> None:
    """`docker version --format '{{json .Server}}'` prints "null" to stdout if no engine answers."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    program(path / "docker", f"echo '{reason}' >&2; PATH=/usr/bin:/bin sleep 0.3; echo null; exit 1")
    with pytest.raises(NoEngineError, match=message):
        docker_engine.ensure(checkout, progress)


def test_nothing_is_installed_on_systems_other_than_debian(
    checkout: Checkout, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "can_install", lambda: False)
    with pytest.raises(NoEngineError, match="this is not Debian; install Docker as"):
        docker_engine.ensure(checkout, progress)
