"""A database on a temporary server in which migrations run: with the specification's roles, or with another setup.

With another setup the migrations run as a superuser, because the catalogs do not show whether an administrator or a
migration created an object, such as an extension. Therefore missing privileges are not found here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from psycopg import sql
from psycopg.conninfo import make_conninfo

from db.migrator import Migration, ScriptFailed, Unreachable
from db.migrator.catalog import Catalog, Entry, read_catalog
from db.migrator.connection import Connection, execute_statement, open_connection
from db.migrator.failure import attributed_to
from db.migrator.ledger import Ledger
from db.migrator.source import Script
from db.migrator.url import LEDGER, SEARCH_PATH, with_session
from infra.spec import roles
from ops.errors import OpsError
from ops.migrations.database_setup import DatabaseSetup
from ops.servers.scratch_server import ScratchServer

T = TypeVar("T")
_OBSTACLE = re.compile(r'(role|schema|extension|database) "(.+)" (does not exist|already exists)')
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
_NOT_AVAILABLE = re.compile(r'extension "(.+)" is not available')
# SQLSTATEs of a statement that refers to a type, a function or another object that does not exist.
_UNDEFINED = {"42704", "42883", "42P01"}
_UNCHANGED = "this happened on a temporary server, and the database is unchanged"
# It always exists, so a ledger whose schema a migration creates waits there.
_PUBLIC = "public"
# Entries of the catalog that belong to the setup, unless a migration changes them.
_GIVEN = re.compile(
    r"grants on the database to |grants on future objects |setting \S+ of the database|extension |publication "
)
_GIVEN_SCHEMA = re.compile(r"(?:schema|(?:owner of|grants on|comment on) schema) (?P<name>.+?)(?: to .*)?")


class ScratchDatabase:
    """One database. Create it with `create_scratch_database`."""

    def __init__(self, url: str, setup: DatabaseSetup | None) -> None:
        self.url = url
        self._setup = setup
        # The objects that the setup created here, by kind and name. If a migration creates one too, ours is dropped.
        self._made: set[tuple[str, str]] = set()
        self._schemas = {_PUBLIC}
        # The schema of the ledger that was moved away from it, because a migration creates the schema itself.
        self._ledger_home: str | None = None
        # Schemas whose extensions are created only once a migration needs them, because it may create them itself.
        self._late = set() if setup is None else set(setup.late_schemas)
        self._given: Catalog | None = None

    def run(self, action: Callable[[], T], first: Migration | None, *, is_applied: bool) -> T:
        """Run migrations with `action`, again whenever an object was missing or already existed and this was corrected.

        `first` is the first of them, the only one that may have several transactions.
        `is_applied`: they have run on the target, so the roles that they name existed at that time. Raise ScriptFailed,
        or OpsError for an extension that the server does not have.
        """
        if first is not None and first.up.has_several_transactions and self._setup is not None:
            # Once its first transaction is committed, it cannot run again. In a single transaction it may fail for
            # another reason, such as a new enum value that is not committed.
            with suppress(ScriptFailed):
                self._run(partial(_run_in_one_transaction, self, first.up), is_applied=is_applied)
        return self._run(action, is_applied=is_applied)

    def _run(self, action: Callable[[], T], *, is_applied: bool) -> T:
        cleared: set[tuple[str, ...]] = set()
        while True:
            try:
                with on_temporary_server(is_applied=is_applied):
                    return action()
            except ScriptFailed as error:
                message = str(getattr(getattr(error.__cause__, "diag", None), "message_primary", None) or "")
                if missing := _NOT_AVAILABLE.match(message):
                    raise OpsError(
                        f"{error.path.name}:{error.line}: the temporary server does not have extension {missing[1]};"
                        " these migrations can only be reviewed on a server that has it"
                    ) from error
                if self._setup is None or error.is_dirty:
                    raise
                found = _OBSTACLE.match(message)
                if (found is None or found[1] != "schema") and self._add_late_extensions(self._setup, error):
                    continue
                if found is None or found.groups() in cleared:
                    raise
                cleared.add(found.groups())
                if not self._clear(self._setup, *found.groups(), is_applied=is_applied):
                    raise

    def remember_given(self) -> None:
        """Read the catalog before the first migration, to tell the setup from what migrations change."""
        if self._setup is not None:
            self._given = read_catalog(self.url)

    def read_catalog(self) -> Catalog:
        """Return the catalog, with the attributes that the roles have on the target."""
        if self._ledger_home is not None:
            # Names are relative to the ledger's schema, so it must be the target's.
            with open_connection(self.url) as connection:
                self._move_ledger(connection, self._ledger_home)
        if self._setup is not None and ("role", str(self._setup.role)) in self._made:
            with open_connection(self._superuser_url()) as connection:
                _alter_role(connection, str(self._setup.role), self._setup.roles[str(self._setup.role)])
        return read_catalog(self.url)

    def without_given(self, expected: Catalog, found: Catalog) -> tuple[Catalog, Catalog]:
        """Remove from both catalogs what belongs to the setup and was not changed by a migration.

        That includes everything in schemas that no migration uses, because they are another program's.
        """
        given = self._given
        if given is None or self._setup is None:
            return expected, found
        unused = {
            schema: f" {_quoted(schema)}."
            for schema in self._setup.schemas.keys() - {self._setup.home, *self._setup.path}
            if not any(f" {_quoted(schema)}." in name for name in expected.entries)
            and given.entries.get(f"schema {schema}") == expected.entries.get(f"schema {schema}")
        }
        schemas = {*self._schemas, *self._setup.path, *unused}

        def is_given(name: str) -> bool:
            if any(prefix in name for prefix in unused.values()):
                return True
            schema = _GIVEN_SCHEMA.fullmatch(name)
            belongs = _GIVEN.match(name) or (schema and schema["name"] in schemas)
            return bool(belongs) and given.entries.get(name) == expected.entries.get(name)

        def kept(entries: Mapping[str, Entry]) -> dict[str, Entry]:
            return {name: entry for name, entry in entries.items() if not is_given(name)}

        return replace(expected, entries=kept(expected.entries)), replace(found, entries=kept(found.entries))

    def _clear(self, setup: DatabaseSetup, kind: str, name: str, state: str, *, is_applied: bool) -> bool:
        """Create what a migration needs, or drop what it creates itself. Return whether anything was done."""
        if state == "already exists":
            if (kind, name) not in self._made or (kind, name) == ("role", setup.role):
                return False
            if (kind, name) == ("schema", setup.home):
                self._ledger_home = name
                with open_connection(self.url) as connection:
                    self._move_ledger(connection, _PUBLIC)
            with open_connection(self._superuser_url()) as connection:
                self._drop(connection, kind, name)
            return True
        with open_connection(self._superuser_url()) as connection:
            if kind == "role" and (is_applied or not setup.is_read):
                _create_role(connection, name)
            elif kind == "schema" and (name in setup.schemas or not setup.is_read):
                self._create_schema(connection, setup, name)
            elif kind == "database":
                # Another database of the target's server, or the target's name without a target to read. Only grants
                # and settings name it.
                _execute(connection, "CREATE DATABASE {}", name)
            else:
                return False
        return True

    def _drop(self, connection: Connection, kind: str, name: str) -> None:
        if kind == "role":
            _execute(connection, "DROP OWNED BY {}", name)
            _execute(connection, "DROP ROLE {}", name)
        elif kind == "schema":
            _execute(connection, "DROP SCHEMA {} CASCADE", name)
            # With it go its extensions.
            self._late.add(name)
        else:
            _execute(connection, "DROP EXTENSION {} CASCADE", name)
        self._made.discard((kind, name))

    def _superuser_url(self) -> str:
        return make_conninfo(self.url, options="")

    def create_setup(self, *, is_copied: bool) -> None:
        """Create the roles, schemas, extensions and default privileges that migrations find."""
        if self._setup is None:
            return
        with open_connection(self._superuser_url()) as connection:
            self._create_roles(connection, self._setup)
            if (owner := self._setup.database_owner) is not None:
                _execute(connection, "ALTER DATABASE {} OWNER TO {}", connection.info.dbname, owner)
            if is_copied:
                return
            for schema in self._setup.needed_schemas:
                self._create_schema(connection, self._setup, schema)
                if schema != _PUBLIC:
                    self._made.add(("schema", schema))
            self._create_extensions(
                connection, self._setup, set(self._setup.extensions.values()) - self._late
            )
            self._set_default_privileges(connection, self._setup, None)

    def _create_schema(self, connection: Connection, setup: DatabaseSetup, name: str) -> None:
        _execute(connection, "CREATE SCHEMA IF NOT EXISTS {}", name)
        if (owner := setup.schemas.get(name)) is not None:
            _execute(connection, "ALTER SCHEMA {} OWNER TO {}", name, owner)
        self._set_default_privileges(connection, setup, name)
        self._schemas.add(name)

    def _set_default_privileges(
        self, connection: Connection, setup: DatabaseSetup, schema: str | None
    ) -> None:
        for statement, of in setup.default_privileges:
            if of == schema:
                connection.execute(statement.encode())

    def _create_roles(self, connection: Connection, setup: DatabaseSetup) -> None:
        existing = {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        for name in sorted(setup.roles.keys() - existing):
            _create_role(connection, name)
            _alter_role(connection, name, setup.roles[name] if name != setup.role else "SUPERUSER")
            self._made.add(("role", name))
        known = existing | setup.roles.keys()
        for role, member in setup.memberships:
            if {role, member} <= known:
                _execute(connection, "GRANT {} TO {}", role, member)

    def _add_late_extensions(self, setup: DatabaseSetup, error: ScriptFailed) -> bool:
        """If a migration misses something, create the late schemas' extensions. Return whether there were any."""
        late = sorted(self._late & set(setup.extensions.values()))
        if not late or error.sqlstate not in _UNDEFINED:
            return False
        with open_connection(self._superuser_url()) as connection:
            existing = {str(name) for (name,) in connection.execute("SELECT nspname FROM pg_namespace")}
            for schema in late:
                if schema not in existing:
                    self._create_schema(connection, setup, schema)
                    self._made.add(("schema", schema))
            self._create_extensions(connection, setup, late)
        self._late.clear()
        return True

    def _move_ledger(self, connection: Connection, schema: str) -> None:
        """Move the session's ledger to a schema, and select it there, because the search_path may not contain it."""
        ledger = Ledger.find(connection)
        assert ledger is not None, "replay creates the ledger first"
        moved = Ledger(schema, ledger.table)
        if moved.name != ledger.name:
            connection.execute(
                sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                    sql.SQL(ledger.name),
                    sql.Identifier(schema),
                )
            )
        self.url = with_session(self.url, {LEDGER: moved.name})

    def _create_extensions(
        self, connection: Connection, setup: DatabaseSetup, schemas: Collection[str]
    ) -> None:
        available = {str(name) for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}
        for name, schema in setup.extensions.items():
            if name in available and schema in schemas:
                _execute(connection, "CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} CASCADE", name, schema)
                self._made.add(("extension", name))


@contextmanager
def on_temporary_server(*, is_applied: bool) -> Iterator[None]:
    """Replace the advice of the error of a script that fails in the block, which is that for a target.

    `is_applied`: the scripts have run on a target, so they must not be edited.
    """
    try:
        yield
    except ScriptFailed as error:
        advice = (
            f"{_UNCHANGED}. Do not edit a file that is applied: docs/migration-review.md#files-that-cannot-be-replayed"
            " says what to do"
            if is_applied
            else f"{_UNCHANGED}: correct the file and run again"
        )
        raise error.but(advice, is_dirty=error.is_dirty) from error.__cause__
    except Unreachable as error:
        raise Unreachable(f"{error}; {_UNCHANGED}", sqlstate=error.sqlstate) from error


def create_scratch_database(
    server: ScratchServer, setup: DatabaseSetup | None, *, is_copied: bool = False
) -> ScratchDatabase:
    """Create an empty database with a setup. None stands for that of groundwork's own databases.

    It has the name of the target, which a migration may contain, for example in REINDEX DATABASE.
    `is_copied`: a dump will create everything in it, so only the roles are created.
    """
    if setup is None:
        return ScratchDatabase(server.make_database(roles.DATABASE), None)
    options = {"role": setup.role, SEARCH_PATH: setup.search_path, LEDGER: setup.ledger}
    session = {name: value for name, value in options.items() if value}
    database = ScratchDatabase(with_session(server.make_plain_database(setup.database), session), setup)
    database.create_setup(is_copied=is_copied)
    return database


def _run_in_one_transaction(database: ScratchDatabase, script: Script) -> None:
    """Run a script with several transactions in a single one that is rolled back."""
    script.check()
    with (
        open_connection(database.url) as connection,
        attributed_to(script),
        connection.transaction(force_rollback=True),
    ):
        for transaction in script.transactions:
            with connection.transaction(force_rollback=not transaction.commits):
                _, statements = transaction.without_modes()
                for statement in statements:
                    execute_statement(connection, script, statement)


def _create_role(connection: Connection, name: str) -> None:
    _execute(connection, "CREATE ROLE {}", name)


def _alter_role(connection: Connection, name: str, attributes: str) -> None:
    _execute(connection, f"ALTER ROLE {{}} {attributes}", name)


def _execute(connection: Connection, statement: str, *names: str) -> None:
    # The texts are those of this module, or attributes of roles.
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _quoted(name: str) -> str:
    """Return a name as the server writes it in definitions."""
    return name if _PLAIN_NAME.fullmatch(name) else sql.Identifier(name).as_string()
