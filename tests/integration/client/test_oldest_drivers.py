"""The data access with the oldest versions of its requirements that pyproject.toml allows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.build_client import REQUIREMENTS
from tests.integration.client.conftest import BIN, ROOT
from tests.scale import IS_FULL

TESTS = ("tests/integration/db", "tests/integration/cache", "tests/unit/db", "tests/unit/cache")


def _oldest() -> list[str]:
    """Return the client's requirements with their lowest version, such as psycopg[binary]==3.3.6."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = []
    for requirement in project["dependencies"]:
        name, extra, version = re.match(r"([\w-]+)(\[\w+\])?>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
        if name in REQUIREMENTS:
            pinned.append(f"{name}{extra or ''}=={version}")
    return pinned


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not IS_FULL, reason="runs every test of the data access again")
def test_the_tests_of_the_data_access_pass_with_the_oldest_drivers(
    docker_engine: None, tmp_path: Path
) -> None:
    uv = [BIN / "uv", "--quiet"]
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*uv, "venv", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [*uv, "pip", "install", "--python", python]
    subprocess.run([*install, "--no-deps", "--requirement", ROOT / "requirements.lock"], check=True)
    subprocess.run([*install, *_oldest()], check=True)

    done = subprocess.run(
        [python, "-m", "pytest", "--quiet", "--numprocesses=2", *TESTS],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "SCALE"}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-5000:]
