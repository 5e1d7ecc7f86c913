"""An application in a folder of its own, with an environment in which only the client's wheel is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts import build_client

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment") / "venv", wheel)


def make_environment(environment: Path, wheel: Path) -> Path:
    """Return the Python of a new environment with a wheel and what the examples need, in their locked versions."""
    uv = [BIN / "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    install = [*uv, "pip", "install", "--python", python]
    subprocess.run(
        [*install, "--require-hashes", "--requirement", ROOT / "examples/requirements.lock"], check=True
    )
    subprocess.run([*install, "--constraint", ROOT / "requirements.lock", wheel], check=True)
    return python


@pytest.fixture(scope="session")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, str]]:
    """Return mypy(python, folder, *files): the exit code and the output of mypy in strict mode.

    All runs share a cache and their options, so that mypy analyzes the installed packages only once.
    """
    folder = tmp_path_factory.mktemp("mypy")
    (folder / "mypy.ini").write_text(CELERY_HAS_NO_TYPES)

    def check(python: Path, files_in: Path, *files: str) -> tuple[int, str]:
        options = ["--strict", "--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache"]
        command = [BIN / "mypy", *options, "--python-executable", python, *files]
        done = subprocess.run(command, cwd=files_in, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return check


CELERY_HAS_NO_TYPES = """\
[mypy]
[mypy-celery.*]
ignore_missing_imports = true
[mypy-celery_app_tasks]
disable_error_code = untyped-decorator
"""


@pytest.fixture(scope="session")
def servers(docker_engine: None) -> Iterator[dict[str, str]]:
    """The variables that `groundwork test-servers` gives its program, which runs until the end of the session."""
    program = (
        "import json, os, sys;"
        "print(json.dumps({n: v for n, v in os.environ.items() if n.startswith('GROUNDWORK_TEST_')}), flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [BIN / "groundwork", "test-servers", "--", sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(180) == 0


class Application:
    """A folder with an application's files. `run` starts one of them."""

    def __init__(self, folder: Path, python: Path, urls: dict[str, str]) -> None:
        self.folder = folder
        self._python = python
        # Nothing of this checkout may be found.
        self._environment = {n: v for n, v in os.environ.items() if not n.startswith("PYTHON")} | urls

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python."""
        return self.execute(self._python, *arguments)

    def run_with_servers(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the environment's Python with temporary servers of its own."""
        return self.execute(BIN / "groundwork", "test-servers", "--", self._python, *arguments)

    def execute(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    @contextmanager
    def started(self, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Start a program, and end it after the block."""
        with subprocess.Popen(
            command, cwd=self.folder, env=self._environment, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.terminate()
