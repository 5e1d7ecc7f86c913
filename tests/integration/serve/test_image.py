"""The access image as it is deployed: it is hardened, has no compiler, becomes ready, and stops cleanly."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.docker.engine import docker, inspect
from infra.docker.health_check import wait_until_healthy
from tests.conftest import Database
from tests.containers import LABEL, Server, build_image
from tests.promises import promise


@dataclass(frozen=True)
class Access:
    container: str
    port: int

    def run(self, *command: str) -> str:
        return docker("exec", self.container, *command)


@pytest.fixture(scope="module")
def image(docker_engine: None) -> str:
    return build_image("access")


@pytest.fixture
def access(
    image: str, database: Database, redis_server: Server, namespace: str, tmp_path: Path
) -> Iterator[Access]:
    # The container's uid, which owns nothing on this machine, must be able to read the files.
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    secrets = {
        "database_url": database.url("app").replace(
            str(database.server.ca_file), "/run/secrets/postgres.crt"
        ),
        "redis_url": redis_server.redis_url("app").replace(
            str(redis_server.ca_file), "/run/secrets/redis.crt"
        ),
    }
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
    shutil.copy(database.server.ca_file, tmp_path / "postgres.crt")
    shutil.copy(redis_server.ca_file, tmp_path / "redis.crt")
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    try:
        docker(
            "run", "--detach", "--name", name, "--label", LABEL, "--network", "host", "--read-only",
            "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges=true",
            "--memory", "128m", "--memory-swap", "128m", "--pids-limit", "128",
            "--volume", f"{tmp_path}:/run/secrets:ro",
            "--env", "DATABASE_URL_FILE=/run/secrets/database_url",
            "--env", "REDIS_URL_FILE=/run/secrets/redis_url",
            "--env", f"GROUNDWORK_CACHE_NAMESPACE={namespace}",
            "--env", f"GROUNDWORK_PORT={port}", "--env", "GROUNDWORK_HOST=127.0.0.1", image,
        )  # fmt: skip
        yield Access(name, port)
    finally:
        docker("rm", "--force", name)


@promise("the access image runs hardened and contains no secrets, compiler or pip")
def test_the_image_serves_hardened_and_stops_cleanly(access: Access) -> None:
    wait_until_healthy(access.container)
    with urllib.request.urlopen(f"http://127.0.0.1:{access.port}/readyz", timeout=5) as answer:
        assert json.load(answer)["ready"] is True
    assert access.run("id", "-u").strip() == "10030"
    assert access.run("sh", "-c", "command -v gcc cc ld make pip pip3 || true") == ""
    assert json.loads(access.run("groundwork-health"))["ready"] is True
    # The image contains no code for Pulumi, Docker or the toolchain.
    assert access.run("sh", "-c", "ls /opt/groundwork/source/infra /opt/groundwork/source/ops").split() == [
        "/opt/groundwork/source/infra:",
        "__init__.py",
        "__pycache__",
        "spec",
        "/opt/groundwork/source/ops:",
        "__init__.py",
        "__pycache__",
        "cli.py",
        "commands",
        "errors.py",
        "file_errors.py",
        "number_range.py",
        "output.py",
        "printable.py",
        "serve",
        "termination.py",
    ]
    docker("stop", access.container)
    (state,) = inspect("container", access.container)
    assert state["State"]["ExitCode"] == 0


@promise("the access image runs hardened and contains no secrets, compiler or pip")
def test_no_secret_is_in_the_image_or_its_environment(access: Access, image: str, database: Database) -> None:
    password = database.server.passwords["app_a"]
    assert password not in json.dumps(inspect("container", access.container))
    assert password not in docker("history", "--no-trunc", image)


def test_the_image_s_command_offers_what_the_image_holds(image: str) -> None:
    said = docker("run", "--rm", "--init", "--entrypoint", "groundwork", image, "--help")
    assert "serve" in said
    assert "Traceback" not in said
