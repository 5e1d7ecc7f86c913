"""The applications in examples/, as a user runs them: with the client's wheel, and nothing else of this checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.containers import Server
from tests.integration.client.conftest import BIN, ROOT, Application
from tests.promises import promise

EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    python: Path,
    database: Database,
    redis_server: Server,
    namespace: str,
) -> Application:
    """A copy of an example. The test's parameter is its folder."""
    folder = shutil.copytree(EXAMPLES / request.param, tmp_path / "example")
    urls = {
        "DATABASE_URL": database.url("app"),
        "REDIS_URL": redis_server.redis_url("app"),
        "GROUNDWORK_CACHE_NAMESPACE": namespace,
    }
    return Application(folder, python, urls)


@promise("a transaction of the FastAPI example covers its endpoint, and an HTTPException rolls it back")
@pytest.mark.parametrize("example", ["fastapi_app"], indirect=True)
def test_the_tests_of_the_fastapi_example_pass(example: Application) -> None:
    done = example.run_with_servers("-m", "pytest", "-q", "-W", "error", "-W", "ignore:Using `httpx`")

    assert (done.returncode, "passed" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*_app")), indirect=True)
def test_mypy_strict_accepts_the_example(example: Application, python: Path) -> None:
    files = sorted(path.name for path in example.folder.glob("*.py"))
    # Celery has no types.
    ignored = ("--disable-error-code=import-untyped", "--disable-error-code=untyped-decorator")
    command = [BIN / "mypy", "--strict", "--python-executable", python, *ignored, *files]
    done = subprocess.run(command, cwd=example.folder, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
