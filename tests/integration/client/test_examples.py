"""The applications in examples/, as a user runs them: with the client's wheel, and nothing else of this checkout."""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.client.conftest import ROOT, Application
from tests.integration.monitoring.measured import free_port, scrape
from tests.promises import promise
from tests.unit.documentation.pages import python_examples

EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    python: Path,
    servers: dict[str, str],
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
    return Application(folder, python, servers | urls)


@promise("a transaction of the FastAPI example covers its endpoint, and an HTTPException rolls it back")
@pytest.mark.parametrize("example", ["fastapi_app"], indirect=True)
def test_the_tests_of_the_fastapi_example_pass(example: Application) -> None:
    done = example.run("-m", "pytest", "-q", "-W", "error", "-W", "ignore:Using `httpx`")

    assert (done.returncode, "passed" in done.stdout) == (0, True), done.stdout + done.stderr


@promise("a forked child uses connections of its own")
@promise("each worker of an application is scraped, with the state of its pool and breaker")
@pytest.mark.parametrize("example", ["flask_app"], indirect=True)
def test_flask_works_in_workers_that_gunicorn_forks_after_loading(example: Application, python: Path) -> None:
    """More requests than workers, so that each of them answers some. The metrics are those of docs/monitoring.md."""
    metrics, configuration = python_examples("docs/monitoring.md")
    ports = (free_port(), free_port())
    example.write(metrics=metrics.replace("(9000, 9001)", str(ports)))
    (example.folder / "gunicorn.conf.py").write_text(configuration)
    arguments = ("--preload", "--workers", "2", "--bind", "127.0.0.1:0", "main:app")
    command = [python, "-m", "gunicorn", "--log-level", "info", *arguments]
    with example.started(*command) as process:
        assert process.stderr is not None
        log = iter(process.stderr.readline, "")
        address = next(match[1] for line in log if (match := re.search(r"Listening at: (http://\S+)", line)))
        try:
            bodies = [{"github_id": n, "username": f"u{n}"} for n in range(1, 13)]
            added = [_answer(f"{address}/users", body) for body in bodies]
            assert [_answer(f"{address}/users/{user['id']}") for user in added] == added
            for port in ports:
                wait_until(lambda port=port: "\ngroundwork_db_pool_size{" in scrape(port))
        except urllib.error.HTTPError as error:
            process.terminate()
            raise AssertionError(f"{error}\n{''.join(log)}") from error
        process.terminate()
        assert not [line for line in log if "Error" in line or "Traceback" in line]
    assert process.returncode == 0


def _answer(url: str, body: object = None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, object] = json.load(response)
        return answer


@pytest.mark.parametrize("example", ["celery_app"], indirect=True)
def test_celery_renames_in_forked_workers_and_returns_errors(example: Application) -> None:
    example.write(drive=DRIVE_CELERY)

    done = example.run("drive.py")

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "NotFound user"), done.stdout + done.stderr


DRIVE_CELERY = """\
import os, subprocess, sys
from groundwork_client.testing import TestServer

redis_url = os.environ["GROUNDWORK_TEST_REDIS_URL"]
server = TestServer(os.environ["GROUNDWORK_TEST_DATABASE_URL"], redis_url)
os.environ |= server.environment(server.create_database())
os.environ |= {"CELERY_BROKER_URL": redis_url, "CELERY_RESULT_BACKEND": redis_url}

from groundwork_client import errors
from groundwork_client.models import NewUser
from tasks import data, rename

worker = subprocess.Popen([sys.executable, "-m", "celery", "--app", "tasks", "worker", "--concurrency", "2"])
try:
    user = data.users.add(NewUser(github_id=7, username="ada"))
    versions = [rename.delay(user.id, f"name{n}").get(timeout=120) for n in range(6)]
    assert versions == [user.row_version + n for n in range(1, 7)], versions
    assert data.users.get(user.id).username == "name5"
    try:
        rename.delay(4711, "nobody").get(timeout=120)
    except errors.NotFound as error:
        print(type(error).__name__, error.entity)
finally:
    worker.terminate()
    worker.wait()
"""
