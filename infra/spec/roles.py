"""The Postgres roles, as data, and the SQL that makes a server match it.

The matrix is docs/security.md; what a role may do with a table is granted by the migration that makes
the table. Everything here is run by the superuser (the container's local socket, RDS's master user)
and may be run again at any time: it converges.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from infra.spec.backup_repository import monitoring_sql

DATABASE = "groundwork"
SCHEMA = "groundwork"
EXTENSIONS_SCHEMA = "extensions"
OWNER = "owner"
SCRAM_ITERATIONS = 4096


@dataclass(frozen=True)
class LoginRole:
    """A role that people and programs log in as.

    `privileges` is the set it wears: logging in gives what that role was granted. `settings` are fixed
    by ALTER ROLE ... SET, so they hold for any client.
    """

    name: str
    privileges: str
    settings: Mapping[str, str]


_EVERYONE = {"search_path": SCHEMA, "timezone": "UTC"}
_APP = _EVERYONE | {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
}
_READONLY = _EVERYONE | {
    "statement_timeout": "60s",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "60s",
}
_MONITOR = _EVERYONE | {
    "search_path": EXTENSIONS_SCHEMA,
    "statement_timeout": "10s",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "15s",
}
# sqlx-cli sets no role and needs CREATE at once, so the session is owner from its start.
_MIGRATOR = _EVERYONE | {"role": OWNER, "idle_in_transaction_session_timeout": "5min"}

# Privilege sets that two logins wear in turn: a password is rotated by moving to the other login.
PRIVILEGE_SETS = ("app", "readonly", "monitor")
LOGINS: dict[str, tuple[LoginRole, ...]] = {
    "app": (LoginRole("app_a", "app", _APP), LoginRole("app_b", "app", _APP)),
    "readonly": (
        LoginRole("readonly_a", "readonly", _READONLY),
        LoginRole("readonly_b", "readonly", _READONLY),
    ),
    "monitor": (
        LoginRole("monitor_a", "monitor", _MONITOR),
        LoginRole("monitor_b", "monitor", _MONITOR),
    ),
    "migrator": (LoginRole("migrator", OWNER, _MIGRATOR),),
}
# The functions by which any role could make or fill a large object: PUBLIC may execute them by default.
_LARGE_OBJECT_FUNCTIONS = (
    "lo_creat(int4)",
    "lo_create(oid)",
    "lo_from_bytea(oid, bytea)",
    "lo_open(oid, int4)",
    "lo_put(oid, int8, bytea)",
    "lo_unlink(oid)",
    "lo_truncate(int4, int4)",
    "lo_truncate64(int4, int8)",
    "lowrite(int4, bytea)",
    "lo_import(text)",
    "lo_import(text, oid)",
    "lo_export(oid, text)",
)


def login_of(role: str, generation: int) -> str:
    """The login that wears a role's password of this generation: of two they take turns, from the first."""
    logins = LOGINS[role]
    return logins[(generation - 1) % len(logins)].name


def scram_verifier(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """What pg_authid stores for a password (RFC 5803), so that the password never reaches the server.

    The password must be ASCII (ours are generated): no SASLprep is done. `salt` is 16 random bytes, kept
    by the caller so that the same secret always gives the same verifier.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")

    def b64(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    return f"SCRAM-SHA-256${iterations}:{b64(salt)}${b64(stored_key)}:{b64(server_key)}"


def roles_sql(verifiers: Mapping[str, str], connection_limits: Mapping[str, int]) -> str:
    """SQL for the cluster: roles, their settings and verifiers. Run in database `postgres`, one transaction.

    `verifiers` maps login names to SCRAM verifiers; a login without one cannot log in. `connection_limits`
    maps the keys of LOGINS to the CONNECTION LIMIT of each of their logins.
    """
    plain = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    lines = ["SET LOCAL log_statement = 'none';"]
    for name in (OWNER, *PRIVILEGE_SETS):
        lines += [_create(name), f"ALTER ROLE {name} NOLOGIN NOINHERIT {plain};"]
    for role, logins in LOGINS.items():
        for login in logins:
            verifier = verifiers.get(login.name)
            password = "NULL" if verifier is None else _literal(verifier)
            lines += [
                _create(login.name),
                f"ALTER ROLE {login.name} LOGIN INHERIT {plain}"
                f" CONNECTION LIMIT {connection_limits[role]} PASSWORD {password};",
                f"GRANT {login.privileges} TO {login.name};",
                *_login_settings(login),
            ]
    lines.append("GRANT pg_monitor TO monitor;")
    # pg_monitor reaches the login through two memberships; each of them inherits.
    lines.append("ALTER ROLE monitor INHERIT;")
    return "\n".join(lines) + "\n"


def managed_roles_sql(connection_limits: Mapping[str, int], token_role: str) -> str:
    """As `roles_sql`, for a server whose administrator is no superuser, and whose logins have tokens: RDS.

    Such an administrator may not even say NOSUPERUSER, and what it makes has none of those attributes anyway.
    It becomes a member of owner, to make what owner owns. `token_role` is the one whose members come in by token.
    """
    lines = []
    for name in (OWNER, *PRIVILEGE_SETS):
        lines += [_create(name), f"ALTER ROLE {name} NOLOGIN NOINHERIT NOCREATEDB NOCREATEROLE;"]
    for role, logins in LOGINS.items():
        for login in logins:
            lines += [
                _create(login.name),
                f"ALTER ROLE {login.name} LOGIN INHERIT NOCREATEDB NOCREATEROLE"
                f" CONNECTION LIMIT {connection_limits[role]} PASSWORD NULL;",
                f"GRANT {login.privileges} TO {login.name};",
                f"GRANT {token_role} TO {login.name};",
                *_login_settings(login),
            ]
    lines += [
        "GRANT pg_monitor TO monitor;",
        "ALTER ROLE monitor INHERIT;",
        f"GRANT {OWNER} TO CURRENT_USER;",
    ]
    return "\n".join(lines) + "\n"


def managed_grants_sql(database: str = DATABASE) -> str:
    """As `grants_sql`, less what only a superuser may close: the functions of large objects."""
    return "\n".join(_grants(database)) + "\n"


def end_sessions_sql(verifiers: Mapping[str, str]) -> str:
    """SQL that ends the sessions of logins without a verifier: who may not come in does not stay either."""
    closed = [login.name for group in LOGINS.values() for login in group if login.name not in verifiers]
    names = ", ".join(_literal(name) for name in closed) or "NULL"
    return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ({names});\n"


def database_sql() -> str:
    """SQL that makes the database; run outside a transaction, only where it does not exist yet."""
    return f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';\n"


def managed_database_sql(ctype: str) -> str:
    """As `database_sql`, with the server's own LC_CTYPE: text sorts the same, and RDS may not know C.UTF-8."""
    return f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE {_literal(ctype)};\n"


def grants_sql(database: str = DATABASE) -> str:
    """SQL for the application's database: its schema and extensions, and the default holes closed.

    Run in that database, one transaction. `database` differs for a test's scratch database.
    """
    lines = [
        *_grants(database),
        *(f"REVOKE EXECUTE ON FUNCTION pg_catalog.{f} FROM PUBLIC;" for f in _LARGE_OBJECT_FUNCTIONS),
        monitoring_sql("monitor"),
    ]
    return "\n".join(lines) + "\n"


def _login_settings(login: LoginRole) -> list[str]:
    return [
        f"ALTER ROLE {login.name} RESET ALL;",
        *(f"ALTER ROLE {login.name} SET {key} = {_literal(value)};" for key, value in login.settings.items()),
    ]


def _grants(database: str) -> list[str]:
    return [
        "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;",
        *_connect_lines(database),
        "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION {OWNER};",
        f"ALTER SCHEMA {SCHEMA} OWNER TO {OWNER};",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO app, readonly;",
        f"CREATE SCHEMA IF NOT EXISTS {EXTENSIONS_SCHEMA};",
        f"CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA {EXTENSIONS_SCHEMA};",
        f"GRANT USAGE ON SCHEMA {EXTENSIONS_SCHEMA} TO monitor;",
    ]


def connect_sql(database: str) -> str:
    """SQL for who may connect to a database: all that a copy of one does not bring with it. Run in any database."""
    return "\n".join(_connect_lines(database)) + "\n"


def _connect_lines(database: str) -> list[str]:
    return [
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE {database} TO {', '.join((*PRIVILEGE_SETS, 'migrator'))};",
    ]


def _create(name: str) -> str:
    return (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')"
        f" THEN CREATE ROLE {name}; END IF; END $$;"
    )


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
