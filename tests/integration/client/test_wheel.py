"""The wheel groundwork-client, in an application that knows nothing of this checkout."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts import build_client
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import Server
from tests.integration.client.conftest import BIN, ROOT, Application
from tests.promises import promise
from tests.scale import IS_FULL

MAIN = """\
import asyncio

import cache
import db
import infra
import ops
from groundwork_client import AsyncDataAccess, DataAccess, errors, load_queries
from groundwork_client.models import NewUser, User

assert (cache.OWNER, db.OWNER, infra.OWNER, ops.OWNER) == ("application",) * 4

COUNT = load_queries('''
-- name: count_names :read
-- Count users and their names.
-- takes: least int
-- gives: tuple
SELECT count(*), count(DISTINCT username) FROM users WHERE github_id >= %(least)s;
''')["count_names"]


async def read(user_id: int) -> User:
    async with AsyncDataAccess.open() as data:
        return await data.users.get(user_id)


with DataAccess.open() as data:
    ada = data.users.add(NewUser(github_id=7, username="ada"))
    assert data.users.get(ada.id) == ada
    try:
        data.users.get(4711)
    except errors.NotFound as error:
        print(error)
    with data.deadline(60), data.transaction(isolation="serializable"):
        locked = data.users.lock(ada.id)
        data.users.patch(locked.id, email="ada@example.org", row_version=locked.row_version)
        counts: tuple[int, int] | None = data.fetch_one(COUNT, tuple[int, int], least=1)
    assert (data.users.get(ada.id).email, counts) == ("ada@example.org", (1, 1))
print(asyncio.run(read(ada.id)).username)
"""
OWN = 'OWNER = "application"\n'
PACKAGES = ("db", "cache", "infra", "ops")


@pytest.fixture
def application(
    tmp_path: Path, python: Path, database: Database, redis_server: Server, namespace: str
) -> Application:
    """An application that has modules with the names of this repository's packages."""
    urls = {
        "DATABASE_URL": database.url("app"),
        "REDIS_URL": redis_server.redis_url("app"),
        "GROUNDWORK_CACHE_NAMESPACE": namespace,
    }
    application = Application(tmp_path, python, urls)
    application.write(main=MAIN, **dict.fromkeys(PACKAGES, OWN))
    return application


@promise("the client package works beside an application's own `db`, `cache`, `infra` and `ops`")
def test_an_application_with_modules_of_the_same_names_reads_and_writes(application: Application) -> None:
    done = application.run("-W", "error", "main.py")

    assert (done.returncode, done.stdout.splitlines()) == (0, ["no user with id 4711", "ada"]), done.stderr


@promise("applications that use the client package pass mypy and pyright in strict mode")
def test_mypy_strict_accepts_the_application_and_the_examples_and_finds_a_wrong_type(
    application: Application, python: Path, mypy: Callable[..., tuple[int, str]]
) -> None:
    """In one run, because each has to load the types of all packages."""
    application.write(
        application=MAIN, wrong=MAIN.replace("data.users.get(4711)", "data.users.get(4711).password")
    )
    for path in (ROOT / "examples").glob("*_app/*.py"):
        # Only the FastAPI example has a file that imports another one.
        name = path.name if path.parent.name == "fastapi_app" else f"{path.parent.name}_{path.name}"
        shutil.copy(path, application.folder / name)
    files = sorted(path.name for path in application.folder.glob("*.py") if path.stem not in PACKAGES)
    code, said = mypy(python, application.folder, *files)

    assert {"main.py", "test_main.py", "flask_app_main.py", "celery_app_tasks.py"} < set(files)
    assert (code, len(said.splitlines())) == (1, 2), said
    assert re.match(r'wrong.py:\d+: error: "User" has no attribute "password"', said), said


@promise("applications that use the client package pass mypy and pyright in strict mode")
@pytest.mark.skipif(not IS_FULL, reason="downloads pyright, 70 MB")
def test_pyright_accepts_the_application(application: Application, python: Path) -> None:
    (application.folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = [BIN / "uv", "--quiet", "tool", "run", "basedpyright", "--pythonpath", python, "main.py"]
    done = subprocess.run(command, cwd=application.folder, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_contains_one_package_without_infra_and_ops(wheel: Path) -> None:
    names = [Path(name).parts for name in ZipFile(wheel).namelist()]

    assert {parts[0] for parts in names if "dist-info" not in parts[0]} == {"groundwork_client"}
    assert not {"infra", "ops", "client"} & {part for parts in names for part in parts}


def test_the_wheel_imports_only_itself_and_what_it_requires() -> None:
    """Modules that are imported on first use count too, since a missing one would only show there."""
    imported = set()
    for path in build_client.modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])

    required = {name.replace("-", "_") for name in build_client.REQUIREMENTS}
    optional = {"boto3", "botocore", "pytest"}
    assert imported - set(sys.stdlib_module_names) - set(build_client.PACKAGES) - optional == required


def test_the_same_sources_give_the_same_wheel_and_others_another_version(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groundwork_client-0.1.0-py3-none-any.whl").touch()
    same = build_client.build(tmp_path)
    assert list(tmp_path.iterdir()) == [same], "an older build stays"
    assert (same.name, same.read_bytes()) == (wheel.name, wheel.read_bytes())
    assert re.search(r"\+schema\d+\.g[0-9a-f]{8}-", same.name)

    versions = {same.name.split("-")[1]}
    for function in ("rewritten", "_pyproject"):
        before = getattr(build_client, function)
        monkeypatch.setattr(
            build_client, function, lambda text, before=before: f"{before(text)}\n# changed\n"
        )
        build_client.write_tree(tmp_path / function)
        project = tomllib.loads((tmp_path / function / "pyproject.toml").read_text())["project"]
        versions.add(project["version"])
    assert len(versions) == 3


def test_imports_are_rewritten() -> None:
    for source, expected in (
        ("from db.models import User\n", "from groundwork_client.models import User\n"),
        ("from infra.spec.errors import X\n", "from groundwork_client.spec.errors import X\n"),
        ("from client import Y\n", "from groundwork_client import Y\n"),
        (
            "def f():\n    from cache import keys\n",
            "def f():\n    from groundwork_client.cache import keys\n",
        ),
        ('HOME = "db._async.access"\n', 'HOME = "groundwork_client.db._async.access"\n'),
        ('LOGGER = "groundwork.db"\nx = "db.nothing"\n', 'LOGGER = "groundwork.db"\nx = "db.nothing"\n'),
        ("from database import db\n", "from database import db\n"),
    ):
        assert build_client.rewritten(source) == expected


def test_a_name_that_cannot_be_rewritten_stops_the_build() -> None:
    for source in ('HOME = r"db._async.access"\n', "import db.models\n"):
        with in_case(source), pytest.raises(SystemExit, match="cannot rewrite"):
            build_client.rewritten(source)
