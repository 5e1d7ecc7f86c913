"""`migrate` for another project: its own folder, role, schema and ledger, from its files of settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from db.migrator.lock import lock_key
from db.migrator.url import libpq_url
from infra.spec.roles import scram_verifier
from ops.commands.migrate import migrate
from ops.errors import Exit, OpsError
from tests.containers import Server
from tests.integration.migrator.conftest import Outcome
from tests.promises import promise

ROOT = Path(__file__).parents[3]
PASSWORD = "of-the-shop"
SETTINGS = """
[migrate]
schema = "shop"
create-schemas = ["shop"]
"""


@dataclass
class Project:
    """A project's folder, and its database, which belongs to a role of its own."""

    root: Path
    server: Server
    role: str

    @property
    def url(self) -> str:
        return f"postgres://{self.role}:{PASSWORD}@localhost:{self.server.port}/{self.role}{self.query}"

    @property
    def query(self) -> str:
        return f"?ssl-mode=VERIFY-FULL&ssl-root-cert={self.server.ca_file}&statement-cache-capacity=50"

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *arguments: str) -> Outcome:
        """Run `groundwork migrate` in the current folder."""
        result = CliRunner().invoke(migrate, arguments)
        if isinstance(result.exception, OpsError):
            return Outcome(result.exception.exit_code, result.stdout, str(result.exception))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def psql(self, sql: str) -> str:
        return self.server.psql(sql, self.role)

    def seen_by_others(self, options: str = "") -> str:
        """Return the ledger of a program that has only the URL, with the name that sqlx-cli uses."""
        with psycopg.connect(libpq_url(self.url + options), autocommit=True) as connection:
            row = connection.execute(
                "SELECT format('%s.%s', nspname, relname) FROM pg_class"
                " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
                " WHERE pg_class.oid = to_regclass('_sqlx_migrations')"
            ).fetchone()
        return "" if row is None else str(row[0])

    def login_path(self) -> str:
        """Return the search_path of a program that has only the URL."""
        with psycopg.connect(libpq_url(self.url), autocommit=True) as connection:
            row = connection.execute("SHOW search_path").fetchone()
        return "" if row is None else str(row[0])

    def tables(self) -> list[str]:
        """Return the database's tables with their schemas."""
        return self.psql(
            "SELECT schemaname || '.' || tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        ).splitlines()


@pytest.fixture
def project(postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    role = f"shop_{uuid.uuid4().hex[:8]}"
    verifier = scram_verifier(PASSWORD, os.urandom(16))
    # The server's pg_hba.conf lets members of readonly log in.
    postgres_server.psql(
        f"CREATE ROLE {role} LOGIN IN ROLE readonly PASSWORD '{verifier}';\nCREATE DATABASE {role} OWNER {role};\n"
    )
    project = Project(tmp_path / "project", postgres_server, role)
    project.write("migrations/1_a.sql", "CREATE TABLE a (id int);")
    project.write("migrations/2_b.up.sql", "CREATE TABLE b (id int);")
    project.write("migrations/2_b.down.sql", "DROP TABLE b;")
    for name in ("DATABASE_URL", "DATABASE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(project.root)
    yield project
    postgres_server.psql(f"DROP DATABASE {role} WITH (FORCE);\nDROP ROLE {role};\n")


@promise("`migrate` works for another project: folder, URL, schema and ledger come from its settings")
def test_a_projects_settings_select_folder_url_schema_and_ledger(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("groundwork.toml", SETTINGS + 'url-variable = "SHOP_URL"\nledger = "applied"\n')
    project.write(".env", f"SHOP_URL='{project.url}'\n")
    # Settings count in the folders below, too. The folder of migrations is beside the file.
    (project.root / "src").mkdir()
    monkeypatch.chdir(project.root / "src")
    assert project.run("status").code == Exit.PENDING
    done = project.run("up")
    assert (done.code, "applied 2_b" in done.out) == (Exit.FINE, True)
    assert f"as {project.role}, from SHOP_URL of {project.root / '.env'}" in done.error
    assert project.tables() == ["shop.a", "shop.applied", "shop.b"]
    assert project.run("up").out == "nothing was pending\n"
    assert project.run("down", "--yes").code == Exit.FINE
    assert project.tables() == ["shop.a", "shop.applied"]
    # Baseline, repair and the other commands use the same ledger.
    assert project.run("repair", "--mark-applied", "2", "--yes").code == Exit.FINE
    assert project.run("status").code == Exit.FINE


@promise("`migrate` works for another project: folder, URL, schema and ledger come from its settings")
@pytest.mark.parametrize("name", ["applied", "shop.applied"])
def test_a_baseline_runs_the_grants_on_the_projects_ledger(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)
    project.write("groundwork.toml", SETTINGS + 'ledger = "applied"\n')
    # The other ledgers do not exist.
    others = "GRANT SELECT ON other.applied, _sqlx_migrations TO app"
    project.write("migrations/1_a.sql", f"GRANT SELECT ON {name} TO app; {others}")
    assert project.run("baseline", "2", "--unchecked").code == Exit.FINE
    assert project.psql("SELECT has_table_privilege('app', 'shop.applied', 'SELECT')") == "t\n"
    refused = project.run("baseline", "2", "--unchecked")
    assert '(2 rows in "shop"."applied")' in refused.error


@pytest.mark.usefixtures("verified_on_shared_server")
def test_another_programs_ledger_is_not_taken_for_the_projects(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)
    project.write("groundwork.toml", SETTINGS + 'ledger = "applied"\n')
    project.run("up")
    project.psql("CREATE SCHEMA other; CREATE TABLE other._sqlx_migrations ()")
    assert project.run("verify").out == "the database matches the 2 applied migrations\n"


@pytest.mark.usefixtures("verified_on_shared_server")
def test_another_programs_ledger_that_is_earlier_on_the_path_is_not_taken_for_the_projects(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)
    project.write("groundwork.toml", '[migrate]\nfolder = "migrations"\nledger = "public._sqlx_migrations"\n')
    assert project.run("up").code == Exit.FINE
    project.psql(f"CREATE SCHEMA AUTHORIZATION {project.role} CREATE TABLE _sqlx_migrations ()")
    # The project's own tables are not among the differences.
    assert project.run("verify").out.splitlines() == [
        f"unexpected  table {project.role}._sqlx_migrations",
        "1 difference from the schema of the 2 applied migrations",
    ]


@promise(
    "`migrate` works for another project: folder, URL, schema and ledger come from its settings", control=True
)
def test_without_settings_the_tables_are_where_the_login_creates_them(project: Project) -> None:
    assert project.run("up", "--folder", "migrations", "--url", project.url).code == Exit.FINE
    assert project.tables() == ["public._sqlx_migrations", "public.a", "public.b"]


def test_the_option_comes_before_the_variable_and_the_variable_before_the_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("groundwork.toml", '[migrate]\nfolder = "other"\n')
    project.write("other/1_o.sql", "CREATE TABLE o ();")
    project.write(".env", "DATABASE_URL=postgres://nobody@localhost:1/x\n")
    assert project.run("status").code == Exit.UNREACHABLE
    monkeypatch.setenv("DATABASE_URL", project.url)
    assert "[expand]" in project.run("status").out
    assert "1  o" in project.run("status").out
    assert "2  b" in project.run("status", "--folder", "migrations").out
    assert project.run("status", "--url", "postgres://nobody@localhost:1/x").code == Exit.UNREACHABLE


def test_the_limits_and_the_ignored_characters_of_the_file_are_used(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)
    project.write("groundwork.toml", '[migrate]\nignored-chars = ["\\r"]\nwait = 0\n')
    assert project.run("up").code == Exit.FINE
    project.write("migrations/1_a.sql", "CREATE TABLE a\r\n (id int);")
    assert project.run("status").code == Exit.MISMATCH
    project.write("migrations/1_a.sql", "CREATE TABLE a\r (id int);")
    assert project.run("status").code == Exit.FINE
    with psycopg.connect(project.url.partition("?")[0], sslrootcert=str(project.server.ca_file)) as other:
        project.write("migrations/3_c.sql", "SELECT 1;")
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(project.role)])
        refused = project.run("up")
    assert (refused.code, "waited 0 s" in refused.error) == (Exit.LOCKED, True)


@pytest.mark.parametrize("given_by", ["option", "file"])
def test_a_shared_ledger_works_only_if_rows_without_a_file_are_ignored(
    project: Project, monkeypatch: pytest.MonkeyPatch, given_by: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)
    project.write("groundwork.toml", "")
    project.write("theirs/20_t.up.sql", "CREATE TABLE t ();")
    project.write("theirs/20_t.down.sql", "DROP TABLE t;")
    assert project.run("up", "--folder", "theirs").code == Exit.FINE
    refused = project.run("up")
    assert refused.code == Exit.MISMATCH
    assert "--forget 20" not in refused.error
    option = ["--ignore-missing"] if given_by == "option" else []
    if given_by == "file":
        project.write("groundwork.toml", "[migrate]\nignore-missing = true\n")
        assert project.run("repair", "--forget", "20", "--yes").code == Exit.REFUSED
        assert project.run("up", "--no-ignore-missing").code == Exit.MISMATCH
    assert "would apply 2_b" in project.run("up", "--dry-run", *option).out
    assert "applied 2_b" in project.run("up", *option).out
    status = project.run("status", *option)
    assert (status.code, re.findall(r"^applied +(\d+)", status.out, re.MULTILINE)) == (Exit.FINE, ["1", "2"])
    # With nothing pending, these two need no temporary server.
    for command in ("plan", "rehearse"):
        assert project.run(command, *option).code == Exit.FINE
        assert project.run(command, "--no-ignore-missing").code == Exit.MISMATCH
    # The newest migration of this folder, not of the ledger.
    assert "reverted 2_b" in project.run("down", "--yes", *option).out
    assert project.psql("SELECT version FROM _sqlx_migrations ORDER BY 1").split() == ["1", "20"]


def test_a_row_of_another_program_with_the_same_text_is_not_taken_for_a_renumbered_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)
    project.write("groundwork.toml", "")
    project.write("theirs/20_ext.sql", "SELECT 20;")
    assert project.run("up", "--folder", "theirs").code == Exit.FINE
    project.write("migrations/101_ext.sql", "SELECT 20;")
    refused = project.run("up")
    assert (refused.code, "pass --ignore-missing" in refused.error) == (Exit.MISMATCH, True)
    project.write("groundwork.toml", "[migrate]\nignore-missing = true\n")
    refused = project.run("repair", "--moved", "101", "--yes")
    assert (refused.code, "may belong to another program" in refused.error) == (Exit.REFUSED, True)
    assert project.run("repair", "--mark-applied", "101", "--yes").code == Exit.FINE
    assert project.run("up").code == Exit.FINE
    rows = project.psql("SELECT version FROM _sqlx_migrations ORDER BY 1").split()
    assert rows == ["1", "2", "20", "101"]


@promise("`migrate` reads sqlx.toml as sqlx-cli 0.9 does, and refuses other keys by name")
def test_sqlx_toml_selects_folder_schema_ledger_and_variable(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        "sqlx.toml",
        '[common]\ndatabase-url-var = "SQLX_URL"\n[migrate]\ncreate-schemas = ["foo"]\n'
        'table-name = "foo.applied"\nmigrations-dir = "sql"\n',
    )
    shutil.move(project.root / "migrations", project.root / "sql")
    monkeypatch.setenv("SQLX_URL", project.url)
    assert project.run("up").code == Exit.FINE
    assert project.tables() == ["foo.applied", "public.a", "public.b"]


def test_an_invalid_file_is_one_line_with_exit_code_2(project: Project) -> None:
    project.write("groundwork.toml", "[migrate]\nfolders = 'x'\n")
    refused = project.run("status")
    assert refused.code == Exit.USAGE
    assert refused.error.startswith(
        f"{project.root / 'groundwork.toml'}: unknown key migrate.folders; the keys"
    )


@promise("the page about using only the migrator works as printed, in a fresh environment")
def test_the_page_works_as_printed(project: Project) -> None:
    page = (ROOT / "docs/migrate-only.md").read_text()
    (settings,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (dotenv,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (options,) = re.findall(r"&options\[.*", dotenv)
    # The commands of the first section, without the creation of the environment and the installation.
    first = page.partition("\n## ")[0]
    install, *commands = re.findall(r"^ {4}(\S.*)$", first, re.MULTILINE)[1:]
    assert install == 'venv/bin/pip install "$GROUNDWORK"'
    shutil.rmtree(project.root / "migrations")
    project.write("groundwork.toml", settings)
    url = re.sub(r"(?<=DATABASE_URL=).*", lambda _: f"'{project.url}{options}'", dotenv)
    project.write(".env", url)
    _install(project.root / "venv")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["GROUNDWORK"] = str(ROOT)
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=project.root, env=environment, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert project.tables() == ["shop._sqlx_migrations", "shop.orders"]
    # sqlx-cli, which does not read groundwork.toml, uses the same ledger with this URL.
    assert project.seen_by_others(options) == "shop._sqlx_migrations"


def _install(environment: Path) -> None:
    """Do what the page's commands do, with uv and the locked versions, which are in its cache."""
    # setuptools leaves files in the folder that it builds.
    source = environment.with_name("groundwork")
    for name in ("cache", "db", "infra", "ops"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    uv = [str(Path(sys.executable).parent / "uv"), "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
    python = str(environment / "bin" / "python")
    locked = ["--constraint", str(ROOT / "requirements.lock")]
    subprocess.run([*uv, "pip", "install", "--python", python, *locked, str(source)], check=True)
