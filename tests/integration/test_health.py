"""Waiting for a container's health: as soon as its check holds, and an end to it where it never does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from infra.docker.engine import DockerError, docker
from infra.docker.health import wait_until_healthy
from tests.containers import LABEL, build_image


@pytest.fixture
def checked(docker_engine: None) -> Iterator[str]:
    """A container that is healthy when there is a file /tmp/healthy."""
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    check = "test -e /tmp/healthy || { echo there is no file; exit 1; }"
    docker(
        *("run", "--detach", "--init", "--name", name, "--label", LABEL, "--network", "none"),
        *("--health-cmd", check, "--health-interval", "1s", "--health-retries", "2"),
        *("--entrypoint", "sleep", build_image("redis"), "infinity"),
    )
    yield name
    docker("rm", "--force", "--volumes", name)


def test_a_container_is_waited_for_until_it_is_healthy(checked: str) -> None:
    docker("exec", "--detach", checked, "sh", "-c", "sleep 2; touch /tmp/healthy")
    wait_until_healthy(checked)
    docker("exec", checked, "test", "-e", "/tmp/healthy")


def test_a_container_that_does_not_get_healthy_is_named_with_the_words_of_its_check(checked: str) -> None:
    with pytest.raises(DockerError, match=rf"{checked} is .*healthy.* after 3 s \(there is no file\)"):
        wait_until_healthy(checked, 3)


def test_a_container_that_is_gone_is_not_waited_for(docker_engine: None) -> None:
    with pytest.raises(DockerError, match="was removed while it was waited for"):
        wait_until_healthy("gw-test-no-such-container")
