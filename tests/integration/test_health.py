"""Waiting for a container's health: until the check succeeds, the container has exited, or the time is over."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from infra.docker.engine import DockerError, docker, inspect
from infra.docker.health_check import _memory_problem, health, wait_until_healthy
from tests.containers import LABEL, build_image
from tests.promises import promise


@pytest.fixture
def checked(docker_engine: None) -> Iterator[str]:
    """A container that is healthy if the file /tmp/healthy exists."""
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    check = "test -e /tmp/healthy || { echo there is no file; exit 1; }"
    docker(
        *("run", "--detach", "--init", "--name", name, "--label", LABEL, "--network", "none"),
        *("--health-cmd", check, "--health-interval", "1h"),
        *("--entrypoint", "sleep", build_image("redis"), "infinity"),
    )
    yield name
    docker("rm", "--force", "--volumes", name)


def test_a_container_is_waited_for_until_it_is_healthy(checked: str) -> None:
    docker("exec", "--detach", checked, "sh", "-c", "sleep 2; touch /tmp/healthy")
    wait_until_healthy(checked)
    docker("exec", checked, "test", "-e", "/tmp/healthy")


def test_before_dockers_first_result_the_check_itself_determines_the_health(checked: str) -> None:
    def both() -> tuple[str, str]:
        (found,) = inspect("container", checked)
        return found["State"]["Health"]["Status"], health(found)

    assert both() == ("starting", "starting")
    docker("exec", checked, "touch", "/tmp/healthy")
    assert both() == ("starting", "healthy")
    docker("stop", checked)
    assert both()[1] == "exited"


@promise("each part starts when the previous one is healthy")
def test_a_container_that_stays_unhealthy_is_reported_with_the_output_of_its_check(checked: str) -> None:
    with pytest.raises(DockerError, match=rf"{checked} is .*healthy.* after 3 s \(there is no file\)"):
        wait_until_healthy(checked, 3)


@pytest.mark.parametrize(
    ("restart", "ended"), [("always", "exits each time that it is started"), ("no", "has exited with code 1")]
)
def test_the_error_for_a_container_that_exits_has_its_last_line_of_log(
    docker_engine: None, restart: str, ended: str
) -> None:
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    docker(
        *("run", "--detach", "--init", "--name", name, "--label", LABEL, "--network", "none"),
        *(f"--restart={restart}", "--health-cmd", "false", "--entrypoint", "sh", build_image("redis")),
        *("-c", "echo there is no configuration; exit 1"),
    )
    try:
        with pytest.raises(DockerError, match=rf"{name} {ended} \(there is no configuration\)"):
            wait_until_healthy(name)
    finally:
        docker("rm", "--force", "--volumes", name)


def test_the_error_for_a_container_that_needs_more_memory_names_the_setting(docker_engine: None) -> None:
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    docker(
        *("run", "--detach", "--init", "--name", name, "--label", LABEL, "--network", "none"),
        *("--memory", "16m", "--memory-swap", "16m", "--restart", "always"),
        *("--label", "groundwork.service=postgres-2", "--health-cmd", "false", "--entrypoint", "sh"),
        *(build_image("redis"), "-c", "echo loading; exec tail /dev/zero"),
    )
    problem = "killed because it needs more memory than its limit: raise groundwork:postgresMemory "
    try:
        with pytest.raises(
            DockerError, match=rf"{name} exits each time that it is started, {problem}\(loading\)"
        ):
            wait_until_healthy(name)
    finally:
        docker("rm", "--force", "--volumes", name)


def test_a_container_without_a_setting_for_its_memory_names_none() -> None:
    for service, fix in (
        ("redis", ": raise groundwork:redisMemory"),
        ("etcd-1", ""),
        # No setting sizes an exporter.
        ("redis-exporter", ""),
        ("postgres-2", ": raise groundwork:postgresMemory"),
    ):
        labels = {"groundwork.service": service}
        problem = _memory_problem({"State": {"OOMKilled": True}, "Config": {"Labels": labels}})
        assert problem.endswith(f"more memory than its limit{fix}"), service


def test_a_container_that_somebody_stopped_is_not_waited_for(checked: str) -> None:
    docker("update", "--restart=unless-stopped", checked)
    docker("stop", "--time=1", checked)
    with pytest.raises(DockerError, match=rf"{checked} has exited with code \d+ "):
        wait_until_healthy(checked)


def test_a_container_that_is_gone_is_not_waited_for(docker_engine: None) -> None:
    with pytest.raises(DockerError, match="was removed while waiting for its health"):
        wait_until_healthy("gw-test-no-such-container")
