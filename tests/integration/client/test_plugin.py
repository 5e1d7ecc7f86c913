"""The client's pytest plugin with `groundwork test-servers`, in an application of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.integration.client.conftest import BIN, Application
from tests.promises import promise

# Each test adds a user with the same github_id, which would fail in a shared database.
TESTS = """\
import asyncio
import os

import psycopg
import pytest

from groundwork_client import AsyncDataAccess, DataAccess
from groundwork_client.models import NewUser

ADA = NewUser(github_id=7, username="ada")
REAL = dict.fromkeys(
    ("DATABASE_READ_URL", "DATABASE_READ_URL_FILE", "DATABASE_URL_FILE", "REDIS_URL_FILE"),
    "postgresql://app@localhost:1/real",
)
REAL |= dict.fromkeys(("GROUNDWORK_DATABASE_LOGIN", "GROUNDWORK_CACHE_LOGIN"), "iam")
os.environ.update(REAL | {"GROUNDWORK_REPLICATION_GROUP": "real"})


@pytest.mark.parametrize("run", range(4))
def test_each_test_has_a_database_and_a_cache_of_its_own(groundwork_data, run):
    assert groundwork_data.users.find(1) is None
    ada = groundwork_data.users.add(ADA)
    assert groundwork_data.users.get(ada.id) == ada
    assert len(groundwork_data.users.list().items) == 1


def test_the_application_opens_its_own_data_access(groundwork_database):
    async def main():
        async with AsyncDataAccess.open() as data:
            return await data.users.add(ADA)

    added = asyncio.run(main())
    with DataAccess.open() as data:
        assert data.users.get(added.id) == added
    assert os.environ["DATABASE_URL"] == groundwork_database["DATABASE_URL"]
    # In the shell there may be the settings of a real stack.
    assert [name for name in REAL if name in os.environ] == []


def test_roles_have_their_privileges_and_settings(groundwork_server, groundwork_database):
    with psycopg.connect(groundwork_database["DATABASE_URL"]) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE groundwork.t ()")
        connection.rollback()
        assert connection.execute("SHOW search_path").fetchone() == ("groundwork",)
        name = connection.info.dbname
    with psycopg.connect(groundwork_server.url(name, "readonly")) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM users")
"""
# Ends the process in a test, so that its database stays.
KILLED = """\
import os

def test_that_never_ends(groundwork_database):
    os._exit(3)
"""
LIST_DATABASES = """\
import json, os, subprocess, sys
import psycopg

def names():
    with psycopg.connect(os.environ["GROUNDWORK_TEST_DATABASE_URL"]) as connection:
        query = "SELECT datname FROM pg_database WHERE datname LIKE 'groundwork_test%' ORDER BY 1"
        return [name for name, in connection.execute(query)]

with psycopg.connect(os.environ["GROUNDWORK_TEST_DATABASE_URL"], autocommit=True) as connection:
    # Templates of other migrations, and the day on which each was used last.
    for name, day in {"old": "'2020-01-01'", "recent": "current_date", "unknown": "NULL"}.items():
        name = "groundwork_test_template_" + name
        connection.execute(f"CREATE DATABASE {name} IS_TEMPLATE true")
        connection.execute(
            f"DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE {name} IS %L', {day}); END $$"
        )

seen = []
for file in sys.argv[1:]:
    code = subprocess.run([sys.executable, "-m", "pytest", "-q", file], stdout=sys.stderr).returncode
    seen.append((code, names()))
print(json.dumps(seen))
"""


@pytest.fixture
def application(tmp_path: Path, python: Path, servers: dict[str, str]) -> Application:
    application = Application(tmp_path, python, servers)
    application.write(test_app=TESTS, test_killed=KILLED, list_databases=LIST_DATABASES)
    return application


@promise("the pytest plugin gives each test a migrated database and a cache of its own, also with xdist")
def test_an_application_tests_with_several_workers(application: Application) -> None:
    done = application.run("-m", "pytest", "-q", "-n", "2", "test_app.py")

    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@promise("databases of a test run that was killed are dropped by the next one")
def test_the_database_of_a_killed_run_and_unused_templates_are_dropped(application: Application) -> None:
    """With servers of its own, because unused templates are dropped when a new one is created."""
    done = application.run_with_servers(
        "list_databases.py", "test_killed.py", "test_app.py", "test_killed.py"
    )

    (killed, left), (passed, kept), (_, left_again) = json.loads(done.stdout)
    assert (killed, passed) == (3, 0), done.stderr
    (template,) = {name for name in kept if name.partition("template_")[2] not in {"recent", "unknown"}}
    assert template.startswith("groundwork_test_template_")
    assert len(kept) == 3
    assert set(left) > set(kept)
    assert len(left) == len(left_again) == 4


def test_without_servers_the_error_names_the_variables(tmp_path: Path, python: Path) -> None:
    application = Application(tmp_path, python, {})
    application.write(test_killed=KILLED)

    done = application.run("-m", "pytest", "-q", "test_killed.py")

    assert (
        "GROUNDWORK_TEST_DATABASE_URL and GROUNDWORK_TEST_REDIS_URL must be set; run the tests with"
        " `groundwork test-servers -- pytest`, or set them to servers that are only used for tests"
    ) in done.stdout


def test_servers_exit_with_the_code_of_the_command(tmp_path: Path) -> None:
    application = Application(tmp_path, Path(sys.executable), {})
    for program, code in (("raise SystemExit(5)", 5), ("import os; os.kill(os.getpid(), 15)", 143)):
        assert application.run_with_servers("-c", program).returncode == code


def test_a_command_that_does_not_exist_is_reported_in_one_line_before_servers_start(tmp_path: Path) -> None:
    """Docker is not on PATH, so that starting a server fails."""
    application = Application(tmp_path, Path(sys.executable), {"PATH": str(tmp_path)})

    done = application.execute(BIN / "groundwork", "test-servers", "--", "no-such-command")

    assert (done.returncode, done.stderr) == (
        2,
        "groundwork: cannot run 'no-such-command': it is not on PATH, or not an executable file\n",
    )
