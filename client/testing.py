"""A pytest plugin that gives each test a migrated database and a cache namespace of its own.

pytest loads it automatically where groundwork-client is installed. It needs a Postgres and a Redis. Run the tests with
`groundwork test-servers -- pytest`, which starts both, or set these variables:

- GROUNDWORK_TEST_DATABASE_URL: the URL of a superuser of a Postgres server that is only used for tests.
- GROUNDWORK_TEST_REDIS_URL: the URL of a Redis that is only used for tests.

The first test migrates a template database, and each test gets a clone of it. The template stays on the server for the
next run with the same migrations, until no run has used it for 30 days. The workers of pytest-xdist share it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from db._sync.access import DataAccess

DATABASE_VARIABLE, REDIS_VARIABLE = "GROUNDWORK_TEST_DATABASE_URL", "GROUNDWORK_TEST_REDIS_URL"
# Settings of the data access that name other servers than DATABASE_URL and REDIS_URL do, or how to log in to them.
_OF_OTHER_SERVERS = (
    *("DATABASE_URL_FILE", "DATABASE_READ_URL", "DATABASE_READ_URL_FILE", "REDIS_URL_FILE"),
    *("GROUNDWORK_DATABASE_LOGIN", "GROUNDWORK_CACHE_LOGIN", "GROUNDWORK_REPLICATION_GROUP"),
)
_PREFIX = "groundwork_test"
_UNUSED_DAYS = 30
# Any number that other programs are unlikely to use for an advisory lock.
_LOCK = 7_218_402_915


class TestServer:
    """The servers of a test session. The fixtures drop each clone at the end of its test."""

    # pytest would otherwise collect the class, because its name begins with Test.
    __test__ = False

    def __init__(self, database_url: str, redis_url: str) -> None:
        import psycopg

        self._admin_url = database_url
        self._redis_url = redis_url
        self._admin = psycopg.connect(database_url, autocommit=True)
        row = self._admin.execute(
            "SELECT pid, extract(epoch FROM backend_start)::bigint FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        assert row is not None
        # Part of the databases' names. A later session recognizes by it which databases this one has not dropped.
        self._session = f"{row[0]}_{row[1]}"
        # FILE_COPY is three times faster, but without fsync=off it waits until every file is on the disk.
        is_temporary = self._exists("SELECT WHERE current_setting(%s) = 'off'", "fsync")
        self._strategy = "FILE_COPY" if is_temporary else "WAL_LOG"
        self._template = self._provide_template()

    def close(self) -> None:
        self._admin.close()

    def create_database(self) -> str:
        """Create a database with all migrations and no rows, and return its name."""
        name = f"{_PREFIX}_{self._session}_{secrets.token_hex(4)}"
        self._clone(name, self._template)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database. Ends the sessions that a test left open in it."""
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, database: str, role: str = "app") -> str:
        """Return the URL of a database as a role: app, readonly, monitor or migrator.

        The session has the role's privileges and settings.
        """
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        from infra.spec import roles

        login = roles.LOGINS[role][0]
        settings = {"role": login.privileges, **roles.managed_settings(login)}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        return make_conninfo(
            "", **{**conninfo_to_dict(self._admin_url), "dbname": database, "options": options}
        )

    def environment(self, database: str) -> dict[str, str]:
        """Return variables that make `DataAccess.open()` use a database as role app, and a new cache namespace."""
        return {
            "DATABASE_URL": self.url(database),
            "REDIS_URL": self._redis_url,
            "GROUNDWORK_CACHE_NAMESPACE": f"test{secrets.token_hex(6)}",
        }

    def _provide_template(self) -> str:
        """Create the template if the server does not have it, and return its name."""
        import psycopg

        from db.migrator import apply_pending, read_source
        from infra.spec import roles

        migrations = read_source()
        digest = hashlib.sha256(roles.grants_sql().encode())
        for migration in migrations:
            digest.update(migration.checksum)
        name = f"{_PREFIX}_template_{digest.hexdigest()[:12]}"
        # Held while the template is created, so that one worker creates it and the others wait.
        self._run(f"SELECT pg_advisory_lock({_LOCK})")
        try:
            self._drop_left_databases()
            if self._exists("SELECT FROM pg_database WHERE datname = %s AND datistemplate", name):
                self._record_use(name)
                return name
            self._drop_unused_templates()
            self.drop_database(name)
            if not self._exists("SELECT FROM pg_roles WHERE rolname = %s", roles.OWNER):
                self._run(roles.roles_sql({}, dict.fromkeys(roles.LOGINS, -1)))
            self._clone(name, "template0")
            with psycopg.connect(self._admin_url, dbname=name, autocommit=True) as connection:
                connection.execute(roles.grants_sql(name).encode())
            apply_pending(self.url(name, "migrator"), migrations)
            # Marked last, so that a template is complete. Cloning fails while a session is connected to the template.
            self._run(f"ALTER DATABASE {name} IS_TEMPLATE true ALLOW_CONNECTIONS false")
            self._record_use(name)
        finally:
            self._run(f"SELECT pg_advisory_unlock({_LOCK})")
        return name

    def _clone(self, name: str, template: str) -> None:
        self._run(
            f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {self._strategy} ENCODING 'UTF8' LOCALE 'C.UTF-8'"
        )

    def _drop_left_databases(self) -> None:
        """Drop the databases of test sessions that ended without dropping them."""
        left = self._admin.execute(
            f"SELECT datname FROM pg_database AS d WHERE datname ~ '^{_PREFIX}_[0-9]+_[0-9]+_' AND NOT EXISTS ("
            " SELECT FROM pg_stat_activity WHERE starts_with("
            f" d.datname, concat_ws('_', '{_PREFIX}', pid, extract(epoch FROM backend_start)::bigint, '')))"
        ).fetchall()
        for (name,) in left:
            self.drop_database(name)

    def _record_use(self, template: str) -> None:
        """Write today's date into the template's comment. Most runs of a day find it there already."""
        row = self._admin.execute(
            "SELECT current_date::text, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            (template,),
        ).fetchone()
        if row is not None and row[0] != row[1]:
            self._run(f"COMMENT ON DATABASE {template} IS '{row[0]}'")

    def _drop_unused_templates(self) -> None:
        """Drop the templates whose last use was too long ago. Those without a recorded use get today's date."""
        templates = self._admin.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') < (current_date - %s)::text FROM pg_database"
            " WHERE datistemplate AND starts_with(datname, %s)",
            (_UNUSED_DAYS, f"{_PREFIX}_template_"),
        ).fetchall()
        for name, is_unused in templates:
            if is_unused is None:
                self._record_use(name)
            elif is_unused:
                self._run(f"ALTER DATABASE {name} IS_TEMPLATE false")
                self.drop_database(name)

    def _exists(self, query: str, value: str) -> bool:
        return self._admin.execute(query.encode(), (value,)).fetchone() is not None

    def _run(self, sql: str) -> None:
        self._admin.execute(sql.encode())


@pytest.fixture(scope="session")
def groundwork_server() -> Iterator[TestServer]:
    """The servers of the test session, with a migrated template database."""
    urls = [os.environ.get(name, "").strip() for name in (DATABASE_VARIABLE, REDIS_VARIABLE)]
    if not all(urls):
        raise pytest.UsageError(
            f"{DATABASE_VARIABLE} and {REDIS_VARIABLE} must be set; run the tests with"
            " `groundwork test-servers -- pytest`, or set them to servers that are only used for tests"
        )
    server = TestServer(*urls)
    yield server
    server.close()


@pytest.fixture
def groundwork_database(
    groundwork_server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mapping[str, str]]:
    """A database with all migrations and no rows, and a cache namespace, for one test.

    Sets DATABASE_URL, REDIS_URL and GROUNDWORK_CACHE_NAMESPACE, so that `DataAccess.open()` in the test or in the
    application uses them. Yields these variables. Unsets the variables that name replicas or files with URLs, or that
    choose logins by IAM, because they may be those of a real stack.
    """
    name = groundwork_server.create_database()
    environment = groundwork_server.environment(name)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    for variable in _OF_OTHER_SERVERS:
        monkeypatch.delenv(variable, raising=False)
    yield environment
    groundwork_server.drop_database(name)


@pytest.fixture
def groundwork_data(groundwork_database: Mapping[str, str]) -> Iterator[DataAccess]:
    """An open data access over the test's database."""
    from db._sync.access import DataAccess

    with DataAccess.open() as data:
        yield data
