"""A second ledger that other programs with the same URL use, a ledger that the login cannot see, and none at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.migrator import NoLedger, status
from db.migrator.ledger import TABLE
from db.migrator.source import read_source
from ops.errors import Exit
from ops.migrations.verification import verify
from tests.containers import wait_until
from tests.integration.migrator.sqlx_cli import VERSIONS, Sqlx, sqlx_program
from tests.integration.migrator.test_foreign_project import SETTINGS, Project
from tests.integration.migrator.test_foreign_project import project as project
from tests.promises import promise

COLUMNS = (
    "(version bigint PRIMARY KEY, description text, installed_on timestamptz, success boolean, checksum bytea,"
    " execution_time bigint)"
)
THEIRS = f"CREATE TABLE {{schema}}.{TABLE} {COLUMNS};\nALTER TABLE {{schema}}.{TABLE} OWNER TO {{role}};\n"


@pytest.fixture(autouse=True)
def url(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", project.url)


@pytest.fixture(params=VERSIONS)
def sqlx(project: Project, request: pytest.FixtureRequest) -> Sqlx:
    return Sqlx(sqlx_program(request.param), project.url, project.root / "migrations")


def add_ledger(project: Project, schema: str) -> None:
    """Create an empty ledger, as a program that has only the URL does."""
    project.psql(THEIRS.format(schema=schema, role=project.role))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_ledger_of_programs_without_the_key_schema_is_refused_by_every_command(
    project: Project, is_first: bool
) -> None:
    project.write("groundwork.toml", SETTINGS)
    if is_first:
        add_ledger(project, "public")
        ours = "shop._sqlx_migrations (does not exist)"
    else:
        assert project.run("up").code == Exit.FINE
        add_ledger(project, "public")
        ours = '"shop"."_sqlx_migrations" (2 rows)'
    before = project.tables()
    for command in (
        ["status"],
        ["up"],
        ["up", "--dry-run"],
        ["down", "--yes"],
        ["plan"],
        ["verify"],
        ["repair"],
    ):
        refused = project.run(*command)
        assert refused.code == Exit.REFUSED, command
        assert f"the key `schema` selects {ours}" in refused.error
        assert 'use "public"."_sqlx_migrations" (0 rows)' in refused.error
    assert project.tables() == before


@pytest.mark.parametrize("given_by", ["url", "role", "ledger", "privilege"])
def test_another_ledger_is_accepted_if_programs_with_this_url_do_not_use_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, given_by: str
) -> None:
    project.write(
        "groundwork.toml", SETTINGS + ('ledger = "shop._sqlx_migrations"' if given_by == "ledger" else "")
    )
    add_ledger(project, "public")
    if given_by == "url":
        monkeypatch.setenv("DATABASE_URL", f"{project.url}&options[search_path]=shop")
    elif given_by == "role":
        project.psql(f"ALTER ROLE {project.role} IN DATABASE {project.role} SET search_path = shop;\n")
    elif given_by == "privilege":
        # The table is another role's, so a program with this URL cannot use it.
        project.psql(f"ALTER TABLE public.{TABLE} OWNER TO CURRENT_USER;\n")
    assert project.run("up").code == Exit.FINE
    assert project.run("status").code == Exit.FINE


def test_the_search_path_of_the_role_is_that_of_other_programs(project: Project) -> None:
    project.write("groundwork.toml", SETTINGS)
    project.psql(f"CREATE SCHEMA late AUTHORIZATION {project.role};\n")
    add_ledger(project, "late")
    assert project.run("up").code == Exit.FINE
    project.psql(f"ALTER ROLE {project.role} SET search_path = nothere, late;\n")
    assert 'use "late"."_sqlx_migrations"' in project.run("up").error


@pytest.mark.parametrize("set_by", ["server", "database", "all roles"])
@promise("`migrate` refuses to run if sqlx-cli with the same URL uses a second ledger")
def test_the_search_path_of_the_server_is_that_of_other_programs(project: Project, set_by: str) -> None:
    project.psql(f"CREATE SCHEMA app AUTHORIZATION {project.role};\n")
    begin = {
        "server": "ALTER SYSTEM",
        "database": f"ALTER DATABASE {project.role}",
        "all roles": "ALTER ROLE ALL",
    }[set_by]
    try:
        project.psql(f"{begin} SET search_path = app, public;\nSELECT pg_reload_conf();\n")
        wait_until(lambda: project.login_path() == "app, public")
        project.write("groundwork.toml", "")
        assert project.run("up").code == Exit.FINE
        before = project.tables()
        assert before == [f"app.{TABLE}", "app.a", "app.b"]
        project.write("groundwork.toml", SETTINGS)
        for command in (["status"], ["up"], ["up", "--dry-run"], ["down", "--yes"], ["repair"]):
            refused = project.run(*command)
            assert (command, refused.code) == (command, Exit.REFUSED)
            assert 'use "app"."_sqlx_migrations" (2 rows)' in refused.error
        assert project.tables() == before
    finally:
        project.psql(f"{begin} RESET search_path;\nSELECT pg_reload_conf();\n")
        wait_until(lambda: project.login_path() == '"$user", public')
    # Other programs no longer use that ledger.
    assert project.run("up").code == Exit.FINE


def test_a_role_with_one_connection_is_enough_and_reset_restores_the_schema(project: Project) -> None:
    project.write("groundwork.toml", SETTINGS)
    project.write(
        "migrations/1_a.sql", "SET search_path = public; RESET search_path; CREATE TABLE a (id int);"
    )
    project.psql(f"ALTER ROLE {project.role} CONNECTION LIMIT 1;\n")
    assert project.run("up").code == Exit.FINE
    assert project.run("status").code == Exit.FINE
    assert project.tables() == [f"shop.{TABLE}", "shop.a", "shop.b"]


def test_a_ledger_that_hides_another_one_on_the_search_path_is_refused(project: Project) -> None:
    # "$user" comes first on the search_path, and a migration creates the schema of that name.
    project.write("migrations/3_c.sql", f"CREATE SCHEMA {project.role};")
    assert project.run("up", "--folder", "migrations").code == Exit.FINE
    assert project.run("status", "--folder", "migrations").code == Exit.FINE
    add_ledger(project, project.role)
    for command in (["status"], ["up"], ["down", "--yes"], ["baseline", "1", "--unchecked"]):
        refused = project.run(*command, "--folder", "migrations")
        assert refused.code == Exit.REFUSED, command
        assert (
            f'two ledgers on the search_path: "{project.role}"."_sqlx_migrations" (0 rows), which is used, and'
            ' "public"."_sqlx_migrations" (3 rows)'
        ) in refused.error
    project.psql(f"DROP TABLE {project.role}.{TABLE};\n")
    assert project.run("status", "--folder", "migrations").code == Exit.FINE


@promise("`up` creates no second ledger if the search_path no longer has the schema of the first one")
@pytest.mark.parametrize("changed", ["role", "url"])
def test_a_ledger_that_is_no_longer_on_the_search_path_is_not_replaced_by_a_new_one(
    project: Project, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    project.write("groundwork.toml", "")
    assert project.run("up").code == Exit.FINE
    before = project.tables()
    project.psql(f"CREATE SCHEMA app AUTHORIZATION {project.role};\n")
    if changed == "role":
        project.psql(f"ALTER ROLE {project.role} SET search_path = app;\n")
    else:
        monkeypatch.setenv("DATABASE_URL", f"{project.url}&options[search_path]=app")
    for command in (
        ["up"],
        ["up", "--dry-run"],
        ["plan"],
        ["rehearse", "--schema-only"],
        ["baseline", "2", "--unchecked"],
    ):
        refused = project.run(*command)
        assert (command, refused.code) == (command, Exit.MISMATCH)
        assert f"but there is public.{TABLE}; no migration was run" in refused.error
        assert f'such as "app.{TABLE}"' in refused.error
    assert project.run("status").code == Exit.PENDING
    assert project.tables() == before
    # Another service with its own ledger.
    project.write("groundwork.toml", f'[migrate]\nledger = "app.{TABLE}"\n')
    assert project.run("up", "--dry-run").code == Exit.FINE
    assert project.run("up").code == Exit.FINE
    assert sorted({*project.tables()} - {*before}) == [f"app.{TABLE}", "app.a", "app.b"]


@pytest.mark.parametrize("key", ['schema = "ub"', 'ledger = "ub.applied"'])
def test_a_missing_schema_of_the_ledger_is_named_with_the_key_that_creates_it(
    project: Project, key: str
) -> None:
    project.write("groundwork.toml", f"[migrate]\n{key}\n")
    refused = project.run("up")
    assert refused.code == Exit.ERROR
    assert refused.error.startswith('schema "ub" of the ledger does not exist; add it to create-schemas')
    project.write("groundwork.toml", f'[migrate]\n{key}\ncreate-schemas = ["ub"]\n')
    assert project.run("up").code == Exit.FINE


def test_a_schema_in_which_the_ledger_may_not_be_created_is_named_with_the_grant(project: Project) -> None:
    project.psql("CREATE SCHEMA ub;\nGRANT USAGE ON SCHEMA ub TO PUBLIC;\n")
    project.write("groundwork.toml", '[migrate]\nschema = "ub"\n')
    assert f'GRANT CREATE, USAGE ON SCHEMA "ub" TO {project.role}' in project.run("up").error


def test_verify_and_status_say_that_the_role_sees_no_ledger(project: Project) -> None:
    migrations = read_source(project.root / "migrations")
    fresh = f"there is no ledger visible to role {project.role}, because no migration has been applied"
    with pytest.raises(NoLedger, match=fresh):
        verify(project.url, migrations)
    assert fresh in project.run("status", "--folder", "migrations").error
    assert project.run("up", "--folder", "migrations").code == Exit.FINE
    assert status(project.url, migrations).absence is None
    assert "no ledger" not in project.run("status", "--folder", "migrations").error
    project.psql(
        "ALTER SCHEMA public OWNER TO CURRENT_USER;\nREVOKE ALL ON SCHEMA public FROM PUBLIC, pg_database_owner;\n"
    )
    for key in ("", "ledger = 'public._sqlx_migrations'\n"):
        project.write("groundwork.toml", f"[migrate]\n{key}")
        for command in ("status", "verify"):
            seen = project.run(command).error
            assert f"no ledger visible to role {project.role}" in seen
            assert "the ledger is in schema public" in seen
        done = project.run("down", "--yes")
        assert (done.code, "the ledger is in schema public" in done.error) == (Exit.MISMATCH, True)


def test_a_login_that_cannot_use_the_ledgers_schema_gets_a_reason_from_every_command(
    project: Project,
) -> None:
    project.psql("CREATE SCHEMA ub;\n")
    add_ledger(project, "ub")
    project.write("groundwork.toml", '[migrate]\nschema = "ub"\n')
    assert 'GRANT CREATE, USAGE ON SCHEMA "ub"' in project.run("up").error
    assert 'GRANT CREATE, USAGE ON SCHEMA "ub"' in project.run("baseline", "1", "--unchecked").error
    assert "the ledger is in schema ub" in project.run("repair").error


@pytest.mark.timeout(3600)
@promise("`migrate` refuses to run if sqlx-cli with the same URL uses a second ledger", control=True)
def test_sqlx_uses_the_ledger_of_the_key_schema_if_the_url_has_the_search_path(
    project: Project, sqlx: Sqlx, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("groundwork.toml", SETTINGS)
    url = f"{project.url}&options[search_path]=shop"
    monkeypatch.setenv("DATABASE_URL", url)
    assert project.run("up", "--to", "1").code == Exit.FINE
    done = replace(sqlx, url=url).run()
    assert (done.returncode, "1/migrate" in done.stdout, "2/migrate" in done.stdout) == (0, False, True)
    assert project.run("up").out == "nothing was pending\n"
    assert project.tables() == ["shop._sqlx_migrations", "shop.a", "shop.b"]


@pytest.mark.timeout(3600)
@promise("`migrate` refuses to run if sqlx-cli with the same URL uses a second ledger")
def test_the_second_ledger_that_sqlx_creates_is_refused(project: Project, sqlx: Sqlx) -> None:
    project.write("migrations/1_a.sql", f"CREATE SCHEMA IF NOT EXISTS {project.role};")
    assert project.run("up", "--folder", "migrations", "--to", "1").code == Exit.FINE
    assert sqlx.run().returncode == 0
    for command in (["status"], ["up"], ["down", "--yes"]):
        refused = project.run(*command, "--folder", "migrations")
        both = f'"{project.role}"."_sqlx_migrations" (2 rows), which is used, and "public"."_sqlx_migrations" (1 row)'
        assert (refused.code, both in refused.error) == (Exit.REFUSED, True)
