"""`groundwork sql check` on a real server: each way in which Python and Postgres may disagree."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from db.named_query import NamedQuery, parse_queries
from ops.errors import OpsError
from ops.sql_check import checker
from ops.sql_check.comparison import mismatches
from ops.sql_check.declared import all_queries
from ops.sql_check.described import Describer, NotDescribed
from ops.sql_check.scratch import ScratchServer, scratch_server
from tests.conftest import Database


@pytest.fixture
def describer(database: Database) -> Iterator[Describer]:
    with psycopg.connect(database.url("migrator"), autocommit=True) as connection:
        yield Describer(connection)


def _query(sql: str, takes: str = "nothing", gives: str = "int", never_null: str = "") -> NamedQuery:
    guard = f"-- never null: {never_null}\n" if never_null else ""
    text = f"-- name: it :read\n-- It.\n-- takes: {takes}\n-- gives: {gives}\n{guard}{sql}"
    return parse_queries(text, "test.sql")["it"]


def test_every_query_fits_the_schema(describer: Describer) -> None:
    for key, query in all_queries().items():
        assert mismatches(key, query, describer.describe(query)) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (_query("SELECT id FROM users WHERE id = %(id)s", "id str"), "parameter id is str in Python and int in"),
        (_query("SELECT id FROM users WHERE id = ANY(%(ids)s)", "ids int"), "parameter ids is int in Python and list"),
        (_query("SELECT id FROM users WHERE id = %(id)s"), "parameter id (int) is not in `takes`"),
        (_query("SELECT id FROM users", "id int"), "it takes id, which the statement does not use"),
        (_query("SELECT username FROM users"), "column username is int in Python and str in Postgres"),
        (_query("SELECT email FROM users", gives="str"), "column email is str in Python and str | None in Postgres"),
        (_query("SELECT count(*) FROM users"), "column count is int in Python and int | None in Postgres"),
        (_query("SELECT id, github_id FROM users"), "int has the fields int, the statement the columns id, github_id"),
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
    ],
)  # fmt: skip
def test_a_disagreement_names_the_column_and_both_types(
    describer: Describer, query: NamedQuery, said: str
) -> None:
    lines = mismatches("test.it", query, describer.describe(query))
    assert any(line.startswith("test.it: ") and said in line for line in lines), lines


@pytest.mark.parametrize(
    "query",
    [
        _query("SELECT count(*) FROM users", never_null="count"),
        _query("SELECT email FROM users", gives="str | None"),
        _query("SELECT r.id FROM repositories r LEFT JOIN organizations o ON o.id = r.org_id"),
        _query("SELECT o.id FROM repositories r JOIN organizations o ON o.id = r.org_id"),
        _query("COPY users (github_id, username) FROM STDIN", gives="nothing"),
        _query("SAVEPOINT here", gives="nothing"),
    ],
)
def test_what_agrees_is_let_through(describer: Describer, query: NamedQuery) -> None:
    assert mismatches("test.it", query, describer.describe(query)) == []


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC" (42601)'),
        ("SELECT none FROM users", 'column "none" does not exist (42703)'),
        ("COPY users (nobody) FROM STDIN", 'column "nobody" does not exist (42703)'),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words(describer: Describer, sql: str, reason: str) -> None:
    with pytest.raises(NotDescribed) as caught:
        describer.describe(_query(sql))
    assert str(caught.value) == reason


def test_a_struct_that_nobody_knows_is_named() -> None:
    query = _query("SELECT 1", gives="Nobody")
    with pytest.raises(OpsError, match="it gives 'Nobody', which is no Struct"):
        mismatches("test.it", query, Describer.__new__(Describer).describe(_query("BEGIN", gives="nothing")))


@pytest.fixture(scope="module")
def scratch(docker_engine: None) -> Iterator[ScratchServer]:
    with scratch_server() as server:
        yield server


def test_another_schema_is_told_both_ways(scratch: ScratchServer) -> None:
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


def test_the_throwaway_server_leaves_nothing_behind() -> None:
    from infra.docker.engine import docker

    names = []
    with pytest.raises(KeyboardInterrupt), scratch_server() as server:  # noqa: PT012
        names.append(server._container)
        raise KeyboardInterrupt
    assert names[0] not in docker("ps", "--all", "--format", "{{.Names}}")


def test_a_revision_that_is_none_is_one_line(scratch: ScratchServer) -> None:
    with pytest.raises(OpsError, match="git ls-tree failed: fatal: Not a valid object name nonsense"):
        checker.check_against(scratch, "nonsense")
