"""plan, verify, baseline and lint on databases and folders that are not groundwork's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from db.migrator import apply_pending, read_source
from ops.errors import Exit
from ops.migrations import plan, verification
from ops.servers import scratch_server as scratch
from ops.servers.scratch_server import ScratchServer
from tests.cases import in_case
from tests.integration.migrations.conftest import Run, invoke
from tests.integration.migrations.kinds import KINDS, Kind
from tests.integration.migrator.conftest import SharedScratch
from tests.promises import promise
from tests.scale import IS_FULL


@pytest.fixture(scope="module")
def foreign_server(docker_engine: None) -> Iterator[ScratchServer]:
    """A server without groundwork's roles, with the databases that the commands review."""
    with scratch.scratch_server(on_disk=True, has_roles=False) as server:
        yield server


@pytest.fixture
def run(shared_scratch: SharedScratch, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with the shared temporary server, without what it left there."""
    names = "SELECT rolname FROM pg_roles"
    with psycopg.connect(shared_scratch.superuser_url(), autocommit=True) as connection:
        kept = {name for (name,) in connection.execute(names).fetchall()}

    @contextmanager
    def shared(**_: object) -> Iterator[SharedScratch]:
        try:
            yield shared_scratch
        finally:
            left = "datname NOT IN ('postgres', 'template0', 'template1')"
            with psycopg.connect(shared_scratch.superuser_url(), autocommit=True) as connection:
                databases = connection.execute(
                    f"SELECT datname FROM pg_database WHERE {left}".encode()
                ).fetchall()
                for (name,) in databases:
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
                for (name,) in connection.execute(names).fetchall():
                    if name not in kept:
                        connection.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"'.encode())

    for module in (plan, verification):
        monkeypatch.setattr(module, "scratch_server", shared)
    return invoke


@dataclass(frozen=True)
class Target:
    """A database of the foreign server."""

    url: str
    superuser_url: str

    def execute(self, sql: str) -> None:
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            connection.execute(sql.encode())


def create_target(server: ScratchServer, name: str, kind: Kind) -> Target:
    """Create a database as the kind's administrator does."""
    name = name.replace("-", "_")
    login = f"{name}_login"
    role, database = (login, f"db_{name}")
    admin = Target(server.superuser_url(), server.superuser_url())
    admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    admin.execute(f"CREATE DATABASE {database} OWNER {role} TEMPLATE template0")
    target = server.superuser_url(database)
    for statement in kind.administrator.format(role=role, database=database).split(";"):
        if statement.strip():
            Target(target, target).execute(statement)
    options = f"-c search_path={kind.search_path.replace(' ', chr(92) + ' ')}" if kind.search_path else ""
    login_url = target if kind.as_superuser else make_conninfo(target, user=login, password="x")
    return Target(make_conninfo(login_url, options=options), target)


def write_files(kind: Kind, folder: Path) -> None:
    folder.mkdir()
    for name, sql in kind.files.items():
        (folder / name).write_bytes(sql.removeprefix("\n").encode())
    for name, raw in kind.binary.items():
        (folder / name).write_bytes(raw)


# The others rarely fail alone.
KINDS_OF_EVERY_RUN = (
    "row-security",
    "provisioned",
    "shared-database",
    "search-path",
    "dump",
    "types",
    "quoted",
    "role-schema",
    "own-extension",
)


@promise("foreign databases and folders are reviewed with their own roles, schemas and extensions")
@pytest.mark.parametrize("name", KINDS if IS_FULL else KINDS_OF_EVERY_RUN)
def test_a_folder_of_each_kind_passes_all_commands(
    name: str, run: Run, foreign_server: ScratchServer, tmp_path: Path
) -> None:
    kind = KINDS[name]
    folder = tmp_path / "migrations"
    write_files(kind, folder)
    migrations = read_source(folder)
    last = migrations[-1].version

    if not kind.needs_setup:
        planned = run("plan", "--from-scratch", "--folder", folder, "--json")
        assert (planned.code, planned.error) == (Exit.FINE, "")
        assert len(json.loads(planned.out)["pending"]) == len(migrations)

    target = create_target(foreign_server, name, kind)
    apply_pending(target.url, migrations, target=migrations[-2].version)
    planned = run("plan", "--url", target.url, "--folder", folder, "--json")
    assert (planned.code, planned.error) == (Exit.FINE, "")
    assert [each["version"] for each in json.loads(planned.out)["pending"]] == [last]

    apply_pending(target.url, migrations)
    # Another login than that of the migrations sees the same, unless it does not find the ledger.
    url = target.url if kind.search_path else target.superuser_url
    verified = run("verify", "--url", url, "--folder", folder)
    matching = f"the database matches the {len(migrations)} applied migrations\n"
    assert (verified.code, verified.out) == (Exit.FINE, matching)

    with psycopg.connect(target.url, autocommit=True) as connection:
        connection.execute("DROP TABLE _sqlx_migrations")
    adopted = run("baseline", str(last), "--url", target.url, "--folder", folder, "--dry-run")
    assert adopted.code == Exit.FINE, adopted.error

    off = ("--disable", "missing-down", "--disable", "missing-grant")
    found = run("lint", "--no-squawk", "--folder", folder, *off, "--json")
    findings = {f"{each['file'].split('_')[0]}: {each['rule']}" for each in json.loads(found.out)["findings"]}
    assert findings == kind.findings


def test_an_extension_that_came_after_the_ledger_does_not_bring_its_schema_forward(
    run: Run, foreign_server: ScratchServer, tmp_path: Path
) -> None:
    """The table of the first file is in public, although the role's own schema comes first on the search_path."""
    kind = Kind({"1_a.sql": "CREATE TABLE early (id int);", "2_b.sql": "CREATE TABLE late (e citext);"})
    folder = tmp_path / "migrations"
    write_files(kind, folder)
    target = create_target(foreign_server, "early", kind)
    apply_pending(target.url, read_source(folder), target=1)
    target.execute(
        "CREATE SCHEMA early_login AUTHORIZATION early_login; CREATE EXTENSION citext SCHEMA early_login"
    )
    apply_pending(target.url, read_source(folder))
    verified = run("verify", "--url", target.url, "--folder", folder)
    assert (verified.code, verified.out) == (Exit.FINE, "the database matches the 2 applied migrations\n")


@promise(
    "foreign databases and folders are reviewed with their own roles, schemas and extensions", control=True
)
def test_drift_of_a_foreign_database_is_found_and_its_setup_is_needed(
    run: Run, foreign_server: ScratchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS["own-schema"]
    folder = tmp_path / "migrations"
    write_files(kind, folder)
    target = create_target(foreign_server, "drifted", kind)
    apply_pending(target.url, read_source(folder))
    target.execute("ALTER TABLE books.book ADD COLUMN pages int; GRANT SELECT ON books.book TO PUBLIC")
    verified = run("verify", "--url", target.url, "--folder", folder, "--json")
    assert verified.code == Exit.MISMATCH
    assert [each["what"] for each in json.loads(verified.out)["drift"]] == [
        "column book.pages",
        "grants on table book to public",
    ]
    refused = run("baseline", "2", "--url", target.url, "--folder", folder)
    assert (refused.code, "already has a ledger" in refused.error) == (Exit.REFUSED, True)
    # Without its setup, not even its migrations run.
    monkeypatch.setattr(verification, "read_setup", lambda url: None)
    assert 'schema "books" does not exist' in run("verify", "--url", target.url, "--folder", folder).error


def test_a_role_that_the_target_lacks_fails_a_pending_migration(
    run: Run, foreign_server: ScratchServer, tmp_path: Path
) -> None:
    kind = KINDS["timestamps"]
    folder = tmp_path / "migrations"
    write_files(kind, folder)
    target = create_target(foreign_server, "roleless", kind)
    apply_pending(target.url, read_source(folder))
    (folder / "20230101000000_grant.sql").write_text("GRANT SELECT ON signups TO nobody_here")
    planned = run("plan", "--url", target.url, "--folder", folder)
    assert (planned.code, 'role "nobody_here" does not exist' in planned.error) == (Exit.ERROR, True)


def test_an_extension_that_the_temporary_server_lacks_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "1_a.sql").write_text("CREATE TABLE t ();\nCREATE EXTENSION postgis;")
    planned = run("plan", "--from-scratch", "--folder", tmp_path)
    assert planned.code == Exit.ERROR
    assert planned.error.startswith("1_a.sql:2: the temporary server does not have extension postgis;")


@promise("foreign databases and folders are reviewed with their own roles, schemas and extensions")
def test_a_file_that_commits_before_it_needs_something_is_reviewed(
    run: Run, foreign_server: ScratchServer, tmp_path: Path
) -> None:
    kind = Kind(
        {
            "1_a.sql": "BEGIN; CREATE TABLE a (); COMMIT; CREATE EXTENSION citext; CREATE TABLE b (e citext);",
            "2_b.sql": "CREATE TABLE c (); ROLLBACK; CREATE TABLE c (); COMMIT; GRANT SELECT ON c TO partial_reader;",
        },
        administrator="CREATE ROLE partial_reader",
    )
    folder = tmp_path / "migrations"
    write_files(kind, folder)
    planned = run("plan", "--from-scratch", "--folder", folder)
    assert (planned.code, planned.error) == (Exit.FINE, "")
    target = create_target(foreign_server, "partial", kind)
    apply_pending(target.url, read_source(folder))
    verified = run("verify", "--url", target.url, "--folder", folder)
    assert (verified.error, verified.out) == ("", "the database matches the 2 applied migrations\n")
    target.execute("DROP TABLE _sqlx_migrations")
    adopted = run("baseline", "2", "--url", target.url, "--folder", folder, "--dry-run")
    assert adopted.code == Exit.FINE, adopted.error


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("transactions", "CREATE TABLE a (); COMMIT; SELECT 1 / 0"),
        ("block", "-- no-transaction\nDO $$BEGIN COMMIT; PERFORM 1 / 0; END$$"),
    ],
)
def test_a_temporary_database_is_never_to_be_repaired(
    run: Run, foreign_server: ScratchServer, tmp_path: Path, name: str, script: str
) -> None:
    (tmp_path / "1_a.sql").write_text(script)
    (tmp_path / "2_b.sql").write_text("SELECT 1")
    target = create_target(foreign_server, f"unrepaired_{name}", Kind({}))
    for command in (("plan", "--from-scratch"), ("baseline", "1", "--url", target.url)):
        outcome = run(*command, "--folder", tmp_path)
        with in_case(command, outcome):
            assert outcome.code == Exit.ERROR
            assert outcome.error.startswith("1_a.sql:")
            assert "division by zero" in outcome.error
            assert "repair" not in outcome.error


def test_the_settings_schema_ledger_and_rules_apply(
    run: Run, foreign_server: ScratchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groundwork.toml").write_text(
        '[migrate]\nschema = "shop"\nledger = "shop.history"\ncreate-schemas = ["shop"]\n'
        "lint = { missing-down = false, missing-grant = false }\n"
    )
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "1_item.sql").write_text("CREATE TABLE item (id int);")
    (tmp_path / "migrations" / "2_sale.sql").write_text("CREATE TABLE sale (id int);")
    monkeypatch.chdir(tmp_path)
    planned = json.loads(run("plan", "--from-scratch", "--json").out)
    assert [each["findings"] for each in planned["pending"]] == [[], []]
    target = create_target(foreign_server, "settings", Kind({}))
    # On a database without the schema, and with it.
    assert run("plan", "--url", target.url).code == Exit.FINE
    assert run("up", "--url", target.url, "--to", "1").code == Exit.FINE
    assert run("plan", "--url", target.url).code == Exit.FINE
    assert run("up", "--url", target.url).code == Exit.FINE
    assert run("verify", "--url", target.url).out == "the database matches the 2 applied migrations\n"
    target.execute("DROP TABLE shop.history")
    assert run("baseline", "2", "--url", target.url).out == "recorded 1_item\nrecorded 2_sale\n"


def test_a_dry_run_of_baseline_creates_the_schemas_of_the_settings_and_rolls_them_back(
    run: Run, foreign_server: ScratchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groundwork.toml").write_text(
        '[migrate]\nledger = "meta._sqlx_migrations"\ncreate-schemas = ["meta", "More"]\n'
    )
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "1_item.sql").write_text(
        "CREATE TABLE public.item (id int); CREATE TABLE more.gone (); DROP TABLE more.gone;"
    )
    monkeypatch.chdir(tmp_path)
    kind = Kind({}, administrator="GRANT ALL ON SCHEMA public TO {role}")
    target = create_target(foreign_server, "dry-baseline", kind)

    def schemas() -> set[str]:
        with psycopg.connect(target.superuser_url) as connection:
            found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname IN ('meta', 'more')")
            return {name for (name,) in found}

    refused = run("baseline", "1", "--url", target.url)
    assert "table public.item is missing" in refused.error
    assert schemas() == set()
    with psycopg.connect(target.url) as connection:
        connection.execute("CREATE TABLE public.item (id int)")
    dry = run("baseline", "1", "--url", target.url, "--dry-run")
    assert (dry.code, dry.out) == (Exit.FINE, "would record 1_item\n")
    assert schemas() == set()
    assert run("baseline", "1", "--url", target.url).out == "recorded 1_item\n"
    assert schemas() == {"meta", "more"}
    assert run("verify", "--url", target.url).code == Exit.FINE
