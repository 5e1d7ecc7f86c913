"""The image's health check, a script that must start fast and report correctly."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web_server import QuietHandler, served

SCRIPT = Path(__file__).parents[3] / "infra" / "images" / "access" / "groundwork-health"


class Handler(QuietHandler):
    def do_GET(self) -> None:
        if self.path == "/slow":
            # Wait until the client gives up.
            self.rfile.read(1)
            return
        self.send_response(200 if self.path in ("/readyz", "/healthz") else 503)
        self.end_headers()
        self.wfile.write(f"answer to {self.path}".encode())


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(Handler) as port:
        yield port


def check(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env={"GROUNDWORK_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


@pytest.mark.parametrize(("arguments", "path"), [((), "/readyz"), (("/healthz",), "/healthz")])
def test_a_good_answer_is_healthy(port: int, arguments: tuple[str, ...], path: str) -> None:
    done = check(port, *arguments)
    assert (done.returncode, done.stdout.strip()) == (0, f"answer to {path}")


def test_a_bad_answer_is_unhealthy_and_shown(port: int) -> None:
    done = check(port, "/other")
    assert (done.returncode, done.stdout.strip()) == (1, "answer to /other")


def test_no_answer_is_unhealthy(port: int) -> None:
    done = check(1)
    assert done.returncode == 1
    assert "no answer on port 1" in done.stderr


def test_a_late_answer_is_unhealthy(port: int) -> None:
    assert check(port, "/slow").returncode == 1
