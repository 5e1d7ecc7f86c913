"""The data access with older versions of its requirements that pyproject.toml allows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts.build_client import REQUIREMENTS
from tests.integration.client.conftest import BIN, ROOT
from tests.scale import IS_FULL

CACHE_TESTS = ("tests/unit/cache", "tests/integration/cache")
# Not the test of pickled errors: it imports the commands, which are installed only with the locked versions.
TESTS = (
    *("tests/unit/db", "--ignore=tests/unit/db/test_portable_errors.py", "tests/integration/db"),
    *CACHE_TESTS,
)


def _oldest() -> list[str]:
    """Return the client's requirements with their lowest version, such as psycopg[binary]==3.3.9."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = []
    for requirement in project["dependencies"]:
        name, extra, version = re.match(r"([\w-]+)(\[\w+\])?>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        if name in REQUIREMENTS:
            pinned.append(f"{name}{extra or ''}=={version}")
    return pinned


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not IS_FULL, reason="runs every test of the data access again")
@pytest.mark.parametrize(
    ("requirements", "tests"),
    [
        pytest.param(_oldest(), TESTS, id="the oldest of all"),
        pytest.param(["redis==6.4.*"], CACHE_TESTS, id="redis 6"),
        pytest.param(["redis==7.0.*"], CACHE_TESTS, id="redis 7.0"),
        pytest.param(["redis==7.*"], CACHE_TESTS, id="redis 7"),
    ],
)
def test_the_tests_of_the_data_access_pass_with_older_drivers(
    docker_engine: None, tmp_path: Path, requirements: list[str], tests: tuple[str, ...]
) -> None:
    locked = ["--no-deps", "--requirement", ROOT / "requirements.lock"]
    python = _environment(tmp_path, locked, requirements)

    done = _pytest(python, "--numprocesses=2", *tests)

    assert done.returncode == 0, done.stdout[-5000:]


def test_the_oldest_redis_py_has_what_the_cache_depends_on(tmp_path: Path) -> None:
    python = _environment(tmp_path, [*_oldest(), f"pytest=={version('pytest')}"])

    # Without conftest.py, which needs all locked packages.
    done = _pytest(
        python, "--noconftest", "--config-file=/dev/null", "tests/unit/cache/test_driver_contracts.py"
    )

    assert done.returncode == 0, done.stdout[-5000:]


def _environment(folder: Path, *installed: Sequence[str | Path]) -> Path:
    """Return the Python of a new environment with these packages. Later ones replace earlier ones."""
    uv = [BIN / "uv", "--quiet"]
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*uv, "venv", "--python", sys.executable, folder / "venv"], check=True)
    for packages in installed:
        subprocess.run([*uv, "pip", "install", "--python", python, *packages], check=True)
    return python


def _pytest(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "pytest", "--quiet", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "SCALE"}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
