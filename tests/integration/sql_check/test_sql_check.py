"""`groundwork sql check` with a real server: each kind of mismatch between Python and Postgres."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from db.named_query import NamedQuery, parse_queries
from ops.commands.sql import sql
from ops.errors import Exit, OpsError
from ops.servers import scratch_server as servers
from ops.servers.scratch_server import ScratchServer, scratch_server
from ops.sql_check import checker, grants, lockfile
from ops.sql_check.comparison import mismatches
from ops.sql_check.declared import all_queries
from ops.sql_check.described import Describer, NotDescribed
from tests.cases import in_case
from tests.conftest import Database
from tests.declared_parameters import hold
from tests.integration.migrator.conftest import SharedScratch
from tests.promises import promise

ROOT = Path(__file__).parents[3]
ALL_FILES = sorted(path.name for path in (ROOT / "db" / "queries").glob("*.sql"))


@pytest.fixture
def describer(database: Database) -> Iterator[Describer]:
    with psycopg.connect(database.url("migrator"), autocommit=True) as connection:
        yield Describer(connection)


def _query(
    sql: str, takes: str = "nothing", gives: str = "int", never_null: str = "", mode: str = "read"
) -> NamedQuery:
    guard = f"-- never null: {never_null}\n" if never_null else ""
    text = f"-- name: it :{mode}\n-- It.\n-- takes: {takes}\n-- gives: {gives}\n{guard}{sql}"
    return parse_queries(text, "test.sql")["it"]


def test_every_query_fits_the_schema(describer: Describer) -> None:
    for key, query in all_queries().items():
        assert mismatches(key, query, describer.describe(query)) == []


DISAGREEMENTS = [
    (_query("SELECT id FROM users WHERE id = %(id)s", "id str"), "parameter id is str in Python and int in"),
    (_query("SELECT id FROM users WHERE id = ANY(%(ids)s)", "ids int"), "parameter ids is int in Python and list"),
    (_query("SELECT id FROM users WHERE id = %(id)s"), "parameter id (int) is not in `takes`"),
    (_query("SELECT id FROM users", "id int"), "`takes` has id, which the statement does not use"),
    (_query("SELECT username FROM users"), "column username is int in Python and str in Postgres"),
    (_query("SELECT email FROM users", gives="str"), "column email is str in Python and str | None in Postgres"),
    (_query("SELECT count(*) FROM users"), "column count is int in Python and int | None in Postgres"),
    (_query("SELECT id, github_id FROM users"), "but the statement the columns id, github_id"),
    (_query("SELECT id FROM users", gives="User"), "User has the fields id, github_id, username"),
    (_query("SELECT github_id AS id, id AS entity FROM users", gives="OutboxMeasure"), "the fields depth, age"),
    (
        _query("SELECT o.id FROM repositories r LEFT JOIN organizations o ON o.id = r.org_id"),
        "column id is int in Python and int | None in Postgres",
    ),
    (
        _query("SELECT r.id FROM organizations o FULL JOIN repositories r ON o.id = r.org_id"),
        "column id is int in Python and int | None in Postgres",
    ),
    (
        _query("SELECT o.id FROM repositories r LEFT JOIN organizations o ON o.id = r.org_id WHERE o.id IS NULL"),
        "column id is int in Python and int | None in Postgres",
    ),
    (
        # The plan of a partitioned table names the partitions.
        _query("SELECT a.type FROM users u LEFT JOIN activities a ON a.user_id = u.id", gives="str"),
        "column type is str in Python and str | None in Postgres",
    ),
    (
        _query(
            "WITH o AS MATERIALIZED (SELECT * FROM organizations)"
            " SELECT o.id FROM repositories r LEFT JOIN o ON o.id = r.org_id"
        ),
        "column id is int in Python and int | None in Postgres",
    ),
    (_query("SELECT username FROM users GROUP BY ROLLUP (username)", gives="str"), "column username is str in Python"),
    (_query("SELECT username FROM users GROUP BY CUBE (username)", gives="str"), "column username is str in Python"),
    (
        _query("SELECT username FROM users GROUP BY GROUPING SETS ((username), ())", gives="str"),
        "column username is str in Python and str | None in Postgres",
    ),
    (
        # A partitioned table, in a subquery that renames the column.
        _query("SELECT n FROM (SELECT type AS n FROM activities GROUP BY ROLLUP (type) ORDER BY 1) a", gives="str"),
        "column n is str in Python and str | None in Postgres",
    ),
    (
        _query(
            "WITH names AS MATERIALIZED (SELECT username AS n FROM users)"
            " SELECT n FROM (SELECT n FROM names GROUP BY ROLLUP (n)) found",
            gives="str",
        ),
        "column n is str in Python and str | None in Postgres",
    ),
    (
        # The planner removes the scan of the table.
        _query("SELECT username FROM users WHERE false GROUP BY ROLLUP (username)", gives="str"),
        "column username is str in Python and str | None in Postgres",
    ),
    (
        _query("SELECT o.id FROM repositories r LEFT JOIN organizations o ON false"),
        "column id is int in Python and int | None in Postgres",
    ),
    (_query("SELECT id FROM users", never_null="ident"), "`never null` has ident, which is not one of its columns"),
    (
        _query("INSERT INTO users (username) VALUES ('x') RETURNING id"),
        "no value is given for users.github_id, which is NOT NULL without a default",
    ),
    (
        _query("COPY users (username) FROM STDIN", gives="nothing"),
        "no value is given for users.github_id, which is NOT NULL without a default",
    ),
]  # fmt: skip


@promise("a mismatch between a query, the schema and its Python types is found")
def test_a_disagreement_names_the_column_and_both_types(describer: Describer) -> None:
    for query, said in DISAGREEMENTS:
        lines = mismatches("test.it", query, describer.describe(query))
        assert any(line.startswith("test.it: ") and said in line for line in lines), (said, lines)


MATCHES = [
    _query("SELECT count(*) FROM users", never_null="count"),
    _query("SELECT email FROM users", gives="str | None"),
    _query("SELECT r.id FROM repositories r LEFT JOIN organizations o ON o.id = r.org_id"),
    _query("SELECT o.id FROM repositories r JOIN organizations o ON o.id = r.org_id"),
    _query("SELECT a.type FROM users u JOIN activities a ON a.user_id = u.id", gives="str"),
    _query("SELECT username FROM users GROUP BY username", gives="str"),
    _query("SELECT username FROM users GROUP BY ROLLUP (username)", gives="str | None"),
    _query("SELECT username FROM users GROUP BY username, ROLLUP (id)", gives="str", never_null="username"),
    _query(
        "SELECT o.name FROM organizations o JOIN"
        " (SELECT org_id, count(*) FROM repositories GROUP BY ROLLUP (org_id)) r ON r.org_id = o.id",
        gives="str",
    ),
    _query("SELECT username FROM users WHERE false", gives="str"),
    _query("SELECT id FROM users WHERE id = ANY(%(ids)s)", "ids list[int | None]"),
    _query("INSERT INTO users (github_id, username) VALUES (1, 'x') RETURNING id", mode="write"),
    _query("COPY users (github_id, username) FROM STDIN", gives="nothing", mode="write"),
    _query("WITH d AS (DELETE FROM users RETURNING id) SELECT id FROM d", mode="write"),
    _query("TRUNCATE users", gives="nothing", mode="write"),
    _query("SELECT 'DELETE FROM users' AS said", gives="str", never_null="said"),
    _query("SAVEPOINT here", gives="nothing"),
]


@promise("a mismatch between a query, the schema and its Python types is found", control=True)
def test_matching_queries_are_accepted(describer: Describer) -> None:
    for query in MATCHES:
        assert mismatches("test.it", query, describer.describe(query)) == [], query.sql


def test_a_read_that_changes_rows_is_reported_from_the_plan_and_from_the_text(describer: Describer) -> None:
    said = ["test.it: changes rows; mark it as `:write`, so that it is sent once, and never to a replica"]
    for statement, gives in (
        ("INSERT INTO users (github_id, username) VALUES (1, 'x') RETURNING id", "int"),
        ("WITH d AS (DELETE/* all */FROM users RETURNING id) SELECT id FROM d", "int"),
        ("MERGE INTO users u USING (SELECT 1 AS id) s ON u.id = s.id WHEN MATCHED THEN DELETE", "nothing"),
        ("COPY users (github_id, username) FROM STDIN", "nothing"),
    ):
        query = _query(statement, gives=gives)
        described = describer.describe(query)
        assert described.changes_rows
        assert mismatches("test.it", query, described) == said, statement
        assert mismatches("test.it", query, replace(described, changes_rows=False)) == said, statement
        # The plan is enough.
        harmless = replace(query, sql=b"SELECT 1")
        assert mismatches("test.it", harmless, described)[:1] == said, statement


def test_a_rejected_statement_is_reported_with_the_servers_message(describer: Describer) -> None:
    for statement, reason in (
        ("SELEC 1", 'syntax error at or near "SELEC" (42601)'),
        ("SELECT none FROM users", 'column "none" does not exist (42703)'),
        ("COPY users (nobody) FROM STDIN", 'column "nobody" does not exist (42703)'),
        (
            "SELECT id FROM users; -- was %(old)s",
            "parameter old is only in a comment or in quotes; remove it there, or write %%(old)s",
        ),
    ):
        with pytest.raises(NotDescribed) as caught:
            describer.describe(_query(statement))
        assert str(caught.value) == reason


def test_a_percent_sign_is_not_taken_for_a_parameter(describer: Describer) -> None:
    query = _query(
        "SELECT username FROM users WHERE username = '%%(a)s' || %(name)s /* %%(b)s */", "name str"
    )
    assert describer.describe(query).parameters == {"name": "str"}


def test_what_the_application_may_not_do_is_a_finding(database: Database) -> None:
    with psycopg.connect(database.url("app"), autocommit=True) as connection:
        describer = Describer(connection)
        with pytest.raises(NotDescribed, match="permission denied"):
            describer.describe(_query("SELECT count(*) FROM pg_authid"))


def test_an_unknown_struct_is_named() -> None:
    query = _query("SELECT 1", gives="Nobody")
    with pytest.raises(OpsError, match=r".gives. is 'Nobody', which is neither a Struct"):
        mismatches("test.it", query, Describer.__new__(Describer).describe(_query("BEGIN", gives="nothing")))


class ReusedScratch(SharedScratch):
    """One server for many tests. A new database replaces the one of the same name."""

    def make_database(self, name: str) -> str:
        self.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        return ScratchServer.make_database(self, name)


@pytest.fixture(scope="module")
def scratch(docker_engine: None) -> Iterator[ScratchServer]:
    with scratch_server() as server:
        reused = ReusedScratch(server)
        yield reused
        reused.superuser.close()


def test_a_changed_schema_is_reported_in_both_directions(scratch: ScratchServer) -> None:
    old, new = scratch.make_database("before"), scratch.make_database("after")
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (id bigint NOT NULL, name text NOT NULL)")
    with psycopg.connect(new, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (id bigint NOT NULL, title text, name text)")
    queries = {
        "things.find": _query("SELECT id FROM things WHERE id = %(id)s", "id int"),
        "things.name": _query("SELECT name FROM things", gives="str"),
    }
    assert checker._differences("old on new", queries, old, new) == [
        "things.name: column name is str | None instead of str [old on new]"
    ]
    renamed = {"things.title": _query("SELECT title FROM things", gives="str")}
    assert checker._differences("new on old", renamed, new, old) == [
        'things.title: column "title" does not exist (42703) [new on old]'
    ]


class GitCheckout:
    """A git repository with this project's migrations, and its queries in some of the files."""

    def __init__(self, folder: Path, files: Iterable[str]) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "db" / "migrations", folder / "db" / "migrations")
        (folder / "db" / "queries").mkdir()
        for name in files:
            shutil.copy(ROOT / "db" / "queries" / name, folder / "db" / "queries")
        self._git("init", "--quiet")

    def commit(self) -> None:
        self._git("add", "--all")
        self._git(
            "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--message", "x"
        )

    def migrate(self, sql: str) -> None:
        (self.folder / "db" / "migrations" / "9999_more.up.sql").write_text(sql)
        (self.folder / "db" / "migrations" / "9999_more.down.sql").write_text("SELECT 1;")

    def queries(self) -> dict[str, NamedQuery]:
        folder = self.folder / "db" / "queries"
        return {
            f"{path.stem}.{query.name}": query
            for path in folder.glob("*.sql")
            for query in parse_queries(path.read_text(), path.name).values()
        }

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(params=[("repositories.sql", "users.sql")], ids=["two files"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitCheckout:
    checkout = GitCheckout(tmp_path / "checkout", request.param)
    checkout.commit()
    monkeypatch.setattr(checker, "_ROOT", checkout.folder)
    monkeypatch.setattr(checker, "all_queries", checkout.queries)
    return checkout


@promise("a release's queries are checked against another revision's schema", control=True)
@pytest.mark.parametrize("checkout", [ALL_FILES], ids=["every file"], indirect=True)
def test_the_same_schema_suits_every_query(scratch: ScratchServer, checkout: GitCheckout) -> None:
    assert checker.check_against(scratch, "HEAD") == []


@promise("a release's queries are checked against another revision's schema")
def test_a_renamed_column_breaks_the_release_before(scratch: ScratchServer, checkout: GitCheckout) -> None:
    checkout.migrate("ALTER TABLE repositories RENAME COLUMN stars TO stargazers;")
    path = checkout.folder / "db" / "queries" / "repositories.sql"
    path.write_text(re.sub(r"\bstars\b(?!\)s)", "stargazers", path.read_text()))
    lines = checker.check_against(scratch, "HEAD")
    old = [line for line in lines if line.endswith("[of HEAD, on the present schema]")]
    new = [line for line in lines if line.endswith("[on the schema of HEAD]")]
    assert any(line.startswith('repositories.find_repository: column "stars" does not exist') for line in old)
    assert any(
        line.startswith('repositories.find_repository: column "stargazers" does not exist') for line in new
    )
    assert len(old) + len(new) == len(lines)


def test_a_column_that_has_to_be_given_breaks_the_release_before(
    scratch: ScratchServer, checkout: GitCheckout
) -> None:
    checkout.migrate("ALTER TABLE users ADD COLUMN plan text NOT NULL;")
    said = "no value is given for users.plan, which is NOT NULL without a default [of HEAD, on the present schema]"
    assert f"users.add_user: {said}" in checker.check_against(scratch, "HEAD")


def test_queries_from_before_types_were_declared_are_compared(
    scratch: ScratchServer, checkout: GitCheckout
) -> None:
    """Also in a file where only some queries have no declared types."""
    path = checkout.folder / "db" / "queries" / "users.sql"
    now = path.read_text()
    path.write_text(now.replace("-- takes: id int\n-- gives: User\n", "", 1))
    checkout.commit()
    path.write_text(now)
    assert checker.check_against(scratch, "HEAD") == []


def test_a_revision_that_cannot_be_compared_is_reported_in_one_line(scratch: ScratchServer) -> None:
    for revision, reason in (
        ("nonsense", r"`git ls-tree` in .* failed: Not a valid object name nonsense"),
        ("-h", r"`git ls-tree` in .* failed: no reason given"),
        # It has no query that could fail on the current schema.
        ("HEAD:db", "HEAD:db has no SQL files in db/queries"),
    ):
        with in_case(revision):
            with pytest.raises(OpsError) as refused:
                checker.check_against(scratch, revision)
            assert re.fullmatch(f"{reason}; --against takes a commit, branch or tag .*", str(refused.value))
            assert refused.value.exit_code == Exit.USAGE


def test_sent_parameters_are_checked_against_the_declared_ones() -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("id int", {"id": "1"}, "it: id is '1', not int"),
        ("id int", {"id": True}, "it: id is True, not int"),
        ("id int", {"id": None}, "it: id is None, not int"),
        ("id int", {"id": 1, "more": 2}, "it takes ['id'], not ['id', 'more']"),
        ("ids list[int]", {"ids": [1, None]}, "it: ids is [1, None], not list[int]"),
        ("ids list[int | None]", {"ids": [1, "2"]}, "it: ids is [1, '2'], not list[int | None]"),
    ]
    for takes, parameters, said in cases:
        with pytest.raises(AssertionError, match=re.escape(said)):
            hold(_query("SELECT 1", takes), parameters)


class TestCommand:
    """The command's output, the files it writes, and its exit codes."""

    @pytest.fixture(autouse=True)
    def _own_lockfile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lockfile = tmp_path / "queries.lock.json"
        shutil.copy(lockfile.LOCKFILE, self.lockfile)
        monkeypatch.setattr(lockfile, "LOCKFILE", self.lockfile)
        monkeypatch.setattr(lockfile.offline_problems, "__defaults__", (self.lockfile,))
        self.grants = tmp_path / "grants.lock.json"
        shutil.copy(grants.LOCKFILE, self.grants)
        monkeypatch.setattr(grants, "LOCKFILE", self.grants)
        monkeypatch.setattr(lockfile.stale_grants, "__defaults__", (self.grants,))

    @pytest.fixture
    def _shared_server(self, scratch: ScratchServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command uses this module's server instead of a new one."""
        monkeypatch.setattr(servers, "scratch_server", lambda: nullcontext(scratch))

    def test_agreement_is_a_line_and_zero(self, docker_engine: None) -> None:
        for options in ([], ["--offline"]):
            result = CliRunner().invoke(sql, ["check", *options])
            assert (result.exit_code, result.stderr) == (0, "")
            assert " queries match " in result.stdout

    @pytest.mark.usefixtures("_shared_server")
    def test_a_stale_lockfile_is_exit_code_1_and_update_fixes_it(self) -> None:
        good = self.lockfile.read_text()
        self.lockfile.write_text(good.replace('"name": "email"', '"name": "mail"'))
        for options in ([], ["--offline"]):
            result = CliRunner().invoke(sql, ["check", *options])
            assert result.exit_code == 1
            assert (
                "groundwork: users.find_user: User has the fields id, github_id, username, email"
                in result.stderr
            )
        assert CliRunner().invoke(sql, ["check", "--update"]).exit_code == 0
        assert self.lockfile.read_text() == good

    @pytest.mark.usefixtures("_shared_server")
    def test_grants_of_other_migrations_are_stale_and_update_rewrites_them(self) -> None:
        good = self.grants.read_text()
        self.grants.write_text(grants.render("another digest", ["app may DELETE table users"]))
        result = CliRunner().invoke(sql, ["check", "--offline"])
        assert result.exit_code == 1
        assert "the migrations have changed since grants.lock.json was written" in result.stderr
        assert CliRunner().invoke(sql, ["check", "--update"]).exit_code == 0
        assert self.grants.read_text() == good

    @pytest.mark.usefixtures("_shared_server")
    def test_update_writes_nothing_where_they_disagree(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = self.lockfile.read_text()
        wrong = all_queries() | {"test.it": _query("SELECT email FROM users", gives="str")}
        monkeypatch.setattr(checker, "all_queries", lambda: wrong)
        result = CliRunner().invoke(sql, ["check", "--update"])
        assert result.exit_code == 1
        assert (
            "groundwork: test.it: column email is str in Python and str | None in Postgres" in result.stderr
        )
        assert self.lockfile.read_text() == before

    def test_options_that_exclude_one_another_are_refused(self) -> None:
        result = CliRunner().invoke(sql, ["check", "--offline", "--update"])
        assert isinstance(result.exception, OpsError)
        assert result.exception.exit_code == Exit.USAGE
