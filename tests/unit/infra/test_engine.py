"""What `docker inspect` says about objects, and how a missing object differs from an engine that does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.docker.engine import DockerError, EngineUnreachable, docker, inspect
from ops.errors import Exit, exit_code_of

# The words of Docker 20.10, and of newer versions.
MISSING = {
    "container": ["Error: No such container: a", "Error response from daemon: No such container: a"],
    "image": [
        "Error: No such image: a",
        "Error response from daemon: no such image: a: No such image: a:latest",
    ],
    "network": ["Error: No such network: a", "Error response from daemon: network a not found"],
    "volume": ["Error: No such volume: a", "Error response from daemon: get a: no such volume"],
}
NO_ENGINE = {
    "none runs": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    "not in the group": "WARNING: Error loading config file\npermission denied while trying to connect to the Docker"
    " daemon socket at unix:///var/run/docker.sock: connect: permission denied",
    "unknown host": 'error during connect: Get "http://nowhere:2375/v1.50/containers/a/json": dial tcp: no such host',
    "unknown context": 'Failed to initialize: context "lab": context not found: no such file or directory',
}


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker command that prints the file `out`, and the file `err` on stderr with exit status 1."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    command = tmp_path / "docker"
    command.write_text(f"#!/bin/sh\ncat {tmp_path}/out\ncat {tmp_path}/err >&2\nexit 1\n")
    command.chmod(0o755)
    (tmp_path / "out").write_text("[]\n")
    return tmp_path


@pytest.mark.parametrize("kind", MISSING)
def test_an_object_that_does_not_exist_is_left_out(says: Path, kind: str) -> None:
    for words in MISSING[kind]:
        (says / "err").write_text(f"{words}\n")
        assert inspect(kind, "a") == []
    (says / "out").write_text('[{"Name": "b"}]\n')
    assert inspect(kind, "a", "b") == [{"Name": "b"}]


@pytest.mark.parametrize("words", NO_ENGINE.values(), ids=NO_ENGINE)
def test_without_an_engine_nothing_counts_as_missing(says: Path, words: str) -> None:
    (says / "err").write_text(f"{words}\n")
    with pytest.raises(EngineUnreachable, match="cannot reach the Docker engine: ") as caught:
        inspect("container", "a", "b")
    assert "\n" not in str(caught.value)
    assert exit_code_of(caught.value) == Exit.UNREACHABLE


def test_an_engine_that_fails_is_reported_although_it_described_some(says: Path) -> None:
    (says / "out").write_text('[{"Name": "b"}]\n')
    (says / "err").write_text("Error response from daemon: i/o timeout\n")
    with pytest.raises(DockerError, match="i/o timeout"):
        inspect("container", "a", "b")


def test_an_engine_that_remaps_users_is_named_as_the_reason(says: Path) -> None:
    (says / "err").write_text("cannot share the host's network namespace when user namespaces are enabled\n")
    with pytest.raises(DockerError, match=r"the engine remaps users: remove `userns-remap`"):
        docker("build", "--network=host", ".")


def test_variables_of_the_users_builds_have_no_effect(says: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BuildKit fails without the plugin buildx. The docker command treats an empty variable as unset."""
    for name in ("DOCKER_BUILDKIT", "DOCKER_DEFAULT_PLATFORM"):
        monkeypatch.setenv(name, "of the user's")
    (says / "docker").write_text('#!/bin/sh\necho "$DOCKER_BUILDKIT,$DOCKER_DEFAULT_PLATFORM"\n')
    assert docker("build", ".") == ",\n"


def test_a_missing_docker_command_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnreachable, match="docker is not on PATH"):
        inspect("volume", "a")


def test_nothing_is_asked_about_no_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert inspect("container") == []
