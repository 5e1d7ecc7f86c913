"""The proxies of image builds: where they come from, and that no password is printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.docker.engine import DockerError
from infra.images import build, proxies
from ops.errors import OpsError
from ops.toolchain import debian
from ops.toolchain.progress import ProgressStep
from tests.promises import promise

PROXY, OTHER = "http://ann:secret@proxy:3128", "http://other:3128"
Arguments = list[tuple[tuple[str, ...], Mapping[str, str]]]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without proxies. Returns the only folder on PATH besides the system's own, which has a silent apt."""
    for name in proxies.NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    apt_config(tmp_path, "")
    return tmp_path


def apt_config(folder: Path, lines: str) -> None:
    """Create an apt-config that prints these lines if it is asked for both proxies."""
    program = folder / "apt-config"
    wanted = "shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy"
    program.write_text(f"""#!/bin/sh\n[ "$*" = "{wanted}" ] || exit 1\ncat <<'END'\n{lines}\nEND\n""")
    program.chmod(0o755)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Arguments:
    """The arguments and the added environment of every docker command, which does nothing."""
    called: Arguments = []

    def docker(*arguments: str, environment: Mapping[str, str] | None = None, **_: object) -> str:
        called.append((arguments, environment or {}))
        return "2026-12-01T00:00:00Z\napt=2.6\n"

    monkeypatch.setattr(build, "docker", docker)
    monkeypatch.setattr(build, "inspect", lambda kind, tag: [{"Id": f"id of {kind} {tag}"}])
    return called


@promise("apt in a build uses the proxies of the environment, and no image contains them")
def test_only_the_build_that_runs_apt_gets_the_proxies(
    tmp_path: Path, builds: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("no_proxy", "localhost")
    build.build(tmp_path, "image")
    given = [(arguments, added) for arguments, added in builds if arguments[0] == "build"]
    (arguments, added), (labelling, _) = given
    assert {"--build-arg=http_proxy", "--build-arg=no_proxy"} < set(arguments)
    assert (added["http_proxy"], added["no_proxy"]) == (PROXY, "localhost")
    assert "proxy" not in " ".join(labelling)
    # A list of processes shows the arguments.
    assert not any("secret" in argument for command, _ in builds for argument in command)


@pytest.mark.usefixtures("builds")
def test_an_image_has_the_id_that_the_engine_knows(tmp_path: Path) -> None:
    """With containerd's image store, `docker build --quiet` may print another one."""
    assert build.build(tmp_path, "groundwork/x:1") == "id of image groundwork/x:1"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, {}),
        ({"http_proxy": ""}, {}),
        ({"http_proxy": PROXY, "HTTP_PROXY": OTHER}, {"http_proxy": PROXY}),
        ({"http_proxy": "", "HTTP_PROXY": OTHER}, {"http_proxy": OTHER}),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a,b"}, {"https_proxy": PROXY, "no_proxy": "a,b"}),
    ],
)
def test_lower_case_variables_have_priority(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxies.build_environment() == wanted


def test_without_variables_the_proxies_of_apt_are_used(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt_config(machine, f"http_proxy='{PROXY}'\nhttps_proxy='DIRECT'")
    # docker itself prefers NO_PROXY to no_proxy, so that it reaches its engine without apt's proxy.
    assert proxies.build_environment() == {"http_proxy": PROXY, "NO_PROXY": "*"}
    monkeypatch.setenv("https_proxy", OTHER)
    assert proxies.build_environment() == {"https_proxy": OTHER}


def test_a_machine_without_apt_has_no_proxies_of_apt(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine / "empty"))
    assert proxies.build_environment() == {}


def test_proxies_in_dockers_configuration_are_left_to_docker(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "docker").mkdir()
    configured = {"proxies": {"default": {"httpProxy": OTHER}}}
    (machine / "docker" / "config.json").write_text(json.dumps(configured))
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    assert proxies.build_environment() == {}


@pytest.mark.parametrize("proxy", [PROXY, "http://ann:se/cr@et@proxy:3128", "ann:secret@proxy:3128"])
def test_a_failed_build_is_reported_without_the_login_of_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    def docker(*_: str, **__: object) -> str:
        raise DockerError(f"`docker build` failed:\nE: cannot reach {proxy}\nE: nor ssh://git@host")

    monkeypatch.setattr(build, "docker", docker)
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(DockerError) as caught:
        build.build(tmp_path, "image")
    host = proxy.replace("ann:", "").replace("secret@", "***@").replace("se/cr@et@", "***@")
    assert str(caught.value) == f"`docker build` failed:\nE: cannot reach {host}\nE: nor ssh://git@host"
    assert caught.value.__suppress_context__


def test_apt_on_this_machine_gets_the_proxies_in_lower_case(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = machine / "apt-get"
    apt.write_text('#!/bin/sh\necho "E: cannot reach $http_proxy" >&2\nexit 100\n')
    apt.chmod(0o755)
    monkeypatch.setattr(debian, "_lists_are_fresh", lambda: True)
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    with pytest.raises(OpsError, match=r"E: cannot reach http://\*\*\*@proxy:3128;"):
        debian.install(["mmdebstrap"], ProgressStep("Base image", "pulling"))
