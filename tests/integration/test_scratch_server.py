"""The temporary server: its properties, and that it leaves nothing behind, however its process ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import psycopg
import pytest

from infra.docker.engine import docker
from ops.errors import Exit, OpsError
from ops.servers.scratch_server import scratch_server
from tests.containers import wait_until
from tests.promises import promise

_RUN = """
import time
from ops.servers.scratch_server import scratch_server
with scratch_server(on_disk=True) as server:
    print(server.container, flush=True)
    time.sleep(600)
"""


def _containers(name: str) -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"name={name}")


@promise("a rehearsal that was stopped leaves nothing behind")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_when_its_process_is_ended(docker_engine: None, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _RUN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        (container,) = _containers(name).split()
        volume = docker(
            "inspect",
            "--format",
            '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}{{end}}{{end}}',
            container,
        ).strip()
        assert volume in docker("volume", "ls", "--quiet").split()
        process.send_signal(number)
    wait_until(lambda: not _containers(name), 60)
    wait_until(lambda: volume not in docker("volume", "ls", "--quiet").split(), 60)


def test_its_logins_are_the_specifications_and_its_superuser_is_not_reached_from_outside(
    docker_engine: None,
) -> None:
    with scratch_server() as server:
        with psycopg.connect(server.make_database("one")) as connection:
            assert connection.execute("SELECT session_user, current_user").fetchone() == ("migrator", "owner")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url("one", "postgres"))
    assert not _containers(server.container)


def test_without_an_engine_it_is_one_line_and_6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(OpsError, match="no Docker engine answers for DOCKER_HOST") as caught:
        with scratch_server():
            pass
    assert caught.value.exit_code == Exit.UNREACHABLE
    assert "\n" not in str(caught.value)
