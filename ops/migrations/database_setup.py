"""Read a database's setup, which its migrations expect: roles, owner, schemas, extensions and default privileges.

A temporary server needs the setup before the migrations can run there. Everything is read from catalogs that any role
may read. The setup of a database that groundwork provisioned is in infra.spec.roles instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from db.migrator.connection import Connection, built_in_names, open_connection
from db.migrator.ledger import Ledger
from db.migrator.url import LEDGER, SEARCH_PATH
from infra.spec import roles

_IS_PROVISIONED = """
SELECT to_regnamespace(%s) IS NOT NULL AND (SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)) = %s
"""
# The role that runs the migrations: the owner of the ledger. Without a ledger: the session's role if it owns a table,
# because it will create the ledger; otherwise the owner of most tables.
_MIGRATING_ROLE = """
WITH owners AS (
    SELECT pg_get_userbyid(relowner) AS name, count(*) AS tables
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND nspname = ANY(%s)
      AND NOT EXISTS (SELECT FROM pg_depend
                      WHERE (classid, objid, deptype) = ('pg_class'::regclass, pg_class.oid, 'e'))
    GROUP BY 1
)
SELECT coalesce(
    (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass(%s)),
    (SELECT name FROM owners ORDER BY name = current_user DESC, tables DESC, name LIMIT 1),
    current_user)
"""
_SESSION = f"SELECT current_setting('search_path'), current_schemas(false), current_setting('{LEDGER}', true)"
# The schema in the name of a ledger that may not exist yet.
_SCHEMA_OF = (
    "SELECT CASE WHEN cardinality(parts) > 1 THEN parts[1] END FROM parse_ident(nullif(%s, '')) AS parts"
)
_SCHEMA_NAME = re.compile(r'"(?:[^"]|"")*"|[^\s,]+')
_ROLES = """
SELECT rolname, concat_ws(' ',
    CASE WHEN rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
    CASE WHEN rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
    CASE WHEN rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
    CASE WHEN rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END,
    CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END)
FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1
"""
_MEMBERSHIPS = """
SELECT DISTINCT granted.rolname, member.rolname
FROM pg_auth_members
JOIN pg_roles AS granted ON granted.oid = roleid
JOIN pg_roles AS member ON member.oid = pg_auth_members.member
ORDER BY 1, 2
"""
_DATABASE_OWNER = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
_SCHEMAS = """
SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1
"""
_EXTENSIONS = """
SELECT extname, nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname <> 'plpgsql' ORDER BY pg_extension.oid
"""
# The privileges of a whole role replace the built-in ones; those of a schema are additional.
_DEFAULT_PRIVILEGES = """
SELECT concat_ws(' ', 'ALTER DEFAULT PRIVILEGES FOR ROLE', quote_ident(pg_get_userbyid(defaclrole)),
                 'IN SCHEMA ' || quote_ident(nspname),
                 CASE WHEN is_start THEN 'REVOKE ALL' ELSE 'GRANT ' || privilege_type END, 'ON', kind,
                 CASE WHEN is_start THEN 'FROM PUBLIC'
                      ELSE 'TO ' || coalesce(quote_ident(pg_get_userbyid(nullif(grantee, 0))), 'PUBLIC') END,
                 CASE WHEN is_grantable THEN 'WITH GRANT OPTION' END), nspname
FROM pg_default_acl
LEFT JOIN pg_namespace ON pg_namespace.oid = defaclnamespace
CROSS JOIN LATERAL (
    SELECT CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                              WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END AS kind
) AS named
CROSS JOIN LATERAL (
    SELECT false AS is_start, grantee, privilege_type, is_grantable FROM aclexplode(defaclacl)
    UNION ALL SELECT true, NULL, NULL, NULL WHERE defaclnamespace = 0
) AS item
ORDER BY defaclrole, nspname, kind, is_start DESC
"""


@dataclass(frozen=True)
class DatabaseSetup:
    """The setup of a database that groundwork did not provision.

    - `database` is its name.
    - `role` runs the migrations; None stands for the temporary server's superuser.
    - `home` is the schema of the ledger; `ledger` is its name if the settings give one.
    - `roles` maps names to attributes, `schemas` to owners, `extensions` to schemas.
    - `default_privileges` has statements with their schema, or None for those of all schemas.
    - `is_read` is False if there is no database to read. Then roles and schemas are created when a migration refers to
      them.
    """

    database: str = "planned"
    role: str | None = None
    search_path: str | None = None
    ledger: str | None = None
    home: str = "public"
    database_owner: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    memberships: Sequence[tuple[str, str]] = ()
    schemas: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=dict)
    default_privileges: Sequence[tuple[str, str | None]] = ()
    is_read: bool = False

    def with_schemas(self, names: Sequence[str]) -> DatabaseSetup:
        """Return the setup with further schemas of the migrations' role. The names are in SQL's spelling."""
        if self.role is None or not names:
            return self
        created = dict.fromkeys(path_of(", ".join(names), None), self.role)
        return replace(self, schemas={**created, **self.schemas})

    @property
    def needed_schemas(self) -> tuple[str, ...]:
        """The schemas that must exist before the first migration.

        These are the ledger's, those of the extensions, and those of another owner, because the migrations would own a
        schema that they create. On the search_path, a schema that comes too early would get other schemas' objects.
        """
        others = {
            name for name, owner in self.schemas.items() if owner != self.role and name not in self.path
        }
        needed = {self.home, *self.extensions.values(), *others} - self.late_schemas
        return tuple(sorted(name for name in needed if not name.startswith("pg_")))

    @property
    def late_schemas(self) -> frozenset[str]:
        """The schemas before the ledger's on the search_path, which did not exist when the ledger was created.

        If they came first here, the ledger and other objects would be created in them.
        """
        path = self.path
        return frozenset(path[: path.index(self.home)]) if self.home in path else frozenset()

    @property
    def path(self) -> tuple[str, ...]:
        """The schemas of the search_path."""
        return path_of(self.search_path or "", self.role)


def path_of(search_path: str, user: str | None) -> tuple[str, ...]:
    """Return the schemas of a search_path as the server shows it, where `$user` stands for the user's name."""
    names = (
        each[1:-1].replace('""', '"') if each.startswith('"') else each.lower()
        for each in _SCHEMA_NAME.findall(search_path)
    )
    return tuple(name if name != "$user" else user for name in names if name != "$user" or user is not None)  # type: ignore[misc]


def unread_setup(session: Mapping[str, str]) -> DatabaseSetup:
    """Return the setup for no database, with the search_path and the ledger of the settings."""
    search_path, ledger = session.get(SEARCH_PATH), session.get(LEDGER)
    home = next(iter(path_of(search_path or "", None)), "public")
    return DatabaseSetup(search_path=search_path, ledger=ledger, home=home)


def read_setup(conninfo: str) -> DatabaseSetup | None:
    """Read a database's setup. Return None if groundwork provisioned it. Raise Unreachable."""
    with open_connection(conninfo) as connection:
        found = Ledger.find(connection)
        row = connection.execute(_SESSION).fetchone()
        assert row is not None
        search_path, path, ledger = str(row[0]), cast("list[str]", row[1]), str(row[2] or "") or None
        with built_in_names(connection):
            return _read(connection, None if found is None else found.name, search_path, path, ledger)


def _read(
    connection: Connection, found: str | None, search_path: str, path: list[str], ledger: str | None
) -> DatabaseSetup | None:
    """Return the setup. `found` is the name of the ledger if it exists, `path` has the schemas of the search_path."""
    names = [roles.OWNER, *roles.PRIVILEGE_SETS, *roles.ALL_LOGINS]
    if _value(connection, _IS_PROVISIONED, roles.SCHEMA, names, len(names)):
        return None
    home = _value(connection, _SCHEMA_OF, found or ledger) or next(
        iter((*path, *path_of(search_path, None))), "public"
    )
    return DatabaseSetup(
        database=str(_value(connection, "SELECT current_database()")),
        role=str(_value(connection, _MIGRATING_ROLE, path, found)),
        search_path=search_path,
        ledger=ledger,
        home=str(home),
        database_owner=str(_value(connection, _DATABASE_OWNER)),
        roles=_pairs(connection, _ROLES),
        memberships=[(str(role), str(member)) for role, member in connection.execute(_MEMBERSHIPS)],
        schemas=_pairs(connection, _SCHEMAS),
        extensions=_pairs(connection, _EXTENSIONS),
        default_privileges=[
            (str(statement), None if schema is None else str(schema))
            for statement, schema in connection.execute(_DEFAULT_PRIVILEGES)
        ],
        is_read=True,
    )


def _value(connection: Connection, query: str, *parameters: object) -> object:
    row = connection.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]


def _pairs(connection: Connection, query: str) -> dict[str, str]:
    return {str(name): str(value) for name, value in connection.execute(query.encode()).fetchall()}
