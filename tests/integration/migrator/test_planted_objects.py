"""Functions, operators and a ledger that another role created in a schema of the migrator's search_path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from db.migrator.ledger import TABLE
from db.migrator.lock import lock_key
from db.migrator.url import libpq_url
from ops.errors import Exit
from tests.integration.migrator.test_foreign_project import Project
from tests.integration.migrator.test_foreign_project import project as project
from tests.integration.migrator.test_ledger_of_others import COLUMNS
from tests.promises import promise

ROOT = Path(__file__).parents[3]
# The modules whose calls are planted, if a built-in function has the name.
MODULES = ("db/migrator/*.py", "ops/migrations/*.py", "db/session.py")
ALONE = (
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS named ON a (x)",
    "CREATE INDEX CONCURRENTLY ON a (x)",
    "REINDEX TABLE CONCURRENTLY a",
    "REINDEX INDEX CONCURRENTLY named",
    "REINDEX SCHEMA CONCURRENTLY public",
    "DROP INDEX CONCURRENTLY named",
)
OPERATORS = ("=", "<>", "<", ">", "<=", ">=", "||", "+", "-", "*", "/")
TYPES = (
    *(
        '"char"',
        "name",
        "text",
        "int2",
        "int4",
        "int8",
        "oid",
        "regclass",
        "regnamespace",
        "regtype",
        "regproc",
    ),
    *("float4", "float8", "numeric", "bool", "interval", "timestamptz", "text[]", "name[]", "oid[]"),
)
ARGUMENTS = ("text", "name", "int4", "oid", "text[]", "name[]", "regclass", '"char"', "int8", "float4")
# Each fits exactly what a query passes, where the built-in one needs a conversion or is for any type.
PLANT = """
SET search_path = pg_catalog;
DO $$
DECLARE a text; b text; called record; operator text;
BEGIN
    FOREACH a IN ARRAY ARRAY[{types}] LOOP
        FOREACH b IN ARRAY ARRAY[{types}] LOOP
            EXECUTE format('CREATE FUNCTION public.planted(%s, %s) RETURNS bool LANGUAGE plpgsql'
                           ' AS ''BEGIN RAISE EXCEPTION ''''planted''''; END''', a, b);
            FOREACH operator IN ARRAY ARRAY[{operators}] LOOP
                EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.planted)',
                               operator, a, b);
            END LOOP;
        END LOOP;
    END LOOP;
    FOR called IN
        SELECT format('%I(%s)', proname, arguments) AS call FROM (
            SELECT DISTINCT proname FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (ARRAY[{names}])
        ) AS names, (
            SELECT one AS arguments FROM unnest(ARRAY[{arguments}]) AS one
            UNION ALL
            SELECT concat_ws(', ', one, two) FROM unnest(ARRAY[{arguments}]) AS one, unnest(ARRAY[{arguments}]) AS two
            UNION ALL SELECT 'text, text, text' UNION ALL SELECT 'text, text, text, text'
        ) AS given
    LOOP
        EXECUTE format('CREATE FUNCTION public.%s RETURNS bool LANGUAGE plpgsql'
                       ' AS ''BEGIN RAISE EXCEPTION ''''planted''''; END''', called.call);
    END LOOP;
END $$;
"""


def plant(project: Project) -> None:
    sources = "".join(path.read_text() for pattern in MODULES for path in ROOT.glob(pattern))
    project.psql(
        PLANT.format(
            types=literals(TYPES),
            operators=literals(OPERATORS),
            arguments=literals(ARGUMENTS),
            names=literals(sorted(set(re.findall(r"\b([a-z][a-z_]+)\(", sources)))),
        )
    )


def literals(texts: object) -> str:
    return ", ".join(f"'{text}'" for text in texts)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def url(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)
    project.write("groundwork.toml", "")


@promise("`migrate` calls no function and no operator that another role planted on its search_path")
@pytest.mark.usefixtures("verified_on_shared_server")
def test_planted_functions_and_operators_are_not_called(project: Project) -> None:
    project.write("groundwork.toml", '[migrate]\ncreate-schemas = ["more"]\n')
    project.write("migrations/3_c.up.sql", "ALTER TABLE a ADD x int;\nALTER TABLE b ADD x int;\nSELECT 1;")
    project.write("migrations/3_c.down.sql", "ALTER TABLE a DROP x;\nALTER TABLE b DROP x;")
    plant(project)
    for code, command in (
        (Exit.PENDING, ["status"]),
        (Exit.FINE, ["up", "--dry-run"]),
        (Exit.FINE, ["up", "--to", "3"]),
        (Exit.FINE, ["down", "--yes"]),
        (Exit.FINE, ["up"]),
        (Exit.FINE, ["repair"]),
        (Exit.REFUSED, ["repair", "--forget", "9", "--yes"]),
        # The planted objects are unexpected.
        (Exit.MISMATCH, ["verify"]),
        (Exit.REFUSED, ["baseline", "2"]),
        (Exit.FINE, ["plan"]),
        (Exit.FINE, ["rehearse"]),
    ):
        done = project.run(*command)
        assert (command, done.code) == (command, code), done.error
    with psycopg.connect(libpq_url(project.url), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s::bigint)", [lock_key(project.role)])
        refused = project.run("baseline", "1", "--unchecked", "--wait", "0")
        assert (refused.code, "server process" in refused.error) == (Exit.LOCKED, True), refused.error
    project.write("migrations/4_d.sql", "CREATE TABLE d ();\nDROP TABLE b;")
    with psycopg.connect(libpq_url(project.url)) as holder:
        holder.execute("LOCK TABLE b")
        refused = project.run("up", "--attempts", "1")
        assert (refused.code, "(on b)" in refused.error) == (Exit.LOCKED, True), refused.error
    # Outside a transaction, the migrator also looks for what an interrupted statement left.
    (project.root / "migrations/4_d.sql").unlink()
    for version, statement in enumerate(ALONE, 4):
        project.write(f"migrations/{version}_e.sql", f"-- no-transaction\n{statement};")
    done = project.run("up")
    assert done.code == Exit.FINE, done.error
    assert project.psql(f"SELECT max(version) FROM public.{TABLE}").strip() == str(3 + len(ALONE))


@pytest.fixture
def other(project: Project) -> Iterator[str]:
    """Another role that may create objects in schema public."""
    name = f"{project.role}_other"
    project.psql(f"CREATE ROLE {name};\nGRANT CREATE ON SCHEMA public TO {name};\n")
    yield name
    project.psql(
        f"ALTER DATABASE {project.role} OWNER TO {project.role};\nDROP OWNED BY {name};\nDROP ROLE {name};\n"
    )


VIEW = (
    "SELECT 1::bigint AS version, ''::text AS description, now() AS installed_on, true AS success, ''::bytea AS"
    " checksum, 1::bigint AS execution_time"
)


@promise("`migrate` refuses a ledger by which another role could run code with the migrator's privileges")
@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW", "TABLE"])
def test_a_ledger_of_another_role_is_refused_by_every_command(
    project: Project, other: str, kind: str
) -> None:
    project.psql(
        f"SET ROLE {other};\nCREATE {kind} {TABLE} {COLUMNS if kind == 'TABLE' else f'AS {VIEW}'};\n"
        f"GRANT ALL ON {TABLE} TO {project.role};\nRESET ROLE;\n"
    )
    if kind == "TABLE":
        why = f'the ledger "public"."{TABLE}" belongs to role {other}'
    else:
        why = f'"public"."{TABLE}" is not a table'
    for command in (
        ["status"],
        ["up"],
        ["up", "--dry-run"],
        ["down", "--yes"],
        ["repair"],
        ["plan"],
        ["verify"],
    ):
        refused = project.run(*command)
        assert (command, refused.code, refused.error[: len(why)]) == (command, Exit.REFUSED, why)
    assert project.run("baseline", "1", "--unchecked").code == Exit.REFUSED
    assert project.tables() == ([f"public.{TABLE}"] if kind == "TABLE" else [])


@promise(
    "`migrate` refuses a ledger by which another role could run code with the migrator's privileges",
    control=True,
)
@pytest.mark.parametrize("trust", ["membership", "database", "superuser"])
def test_a_ledger_of_a_trusted_role_is_accepted(project: Project, other: str, trust: str) -> None:
    assert project.run("up", "--to", "1").code == Exit.FINE
    project.psql(f"ALTER TABLE {TABLE} OWNER TO {other};\nGRANT ALL ON {TABLE} TO {project.role};\n")
    assert project.run("status").code == Exit.REFUSED
    project.psql(
        {
            "membership": f"GRANT {other} TO {project.role};\n",
            "database": f"GRANT CREATE ON SCHEMA public TO {project.role};\n"
            f"ALTER DATABASE {project.role} OWNER TO {other};\n",
            "superuser": f"ALTER TABLE {TABLE} OWNER TO CURRENT_USER;\nGRANT ALL ON {TABLE} TO {project.role};\n",
        }[trust]
    )
    assert project.run("up").code == Exit.FINE
    assert project.run("status").code == Exit.FINE


def test_a_role_that_cannot_create_a_ledger_may_read_that_of_another_role(
    project: Project, other: str
) -> None:
    assert project.run("up").code == Exit.FINE
    project.psql(
        f"ALTER TABLE {TABLE} OWNER TO {other};\nGRANT SELECT ON {TABLE} TO {project.role};\n"
        f"ALTER SCHEMA public OWNER TO CURRENT_USER;\n"
    )
    assert project.run("status").code == Exit.FINE
