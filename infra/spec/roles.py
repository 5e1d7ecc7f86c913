"""The Postgres roles as data, and the idempotent SQL that makes a server match it.

docs/security.md shows the permissions as a matrix. The migration that creates a table grants the privileges on it. An
administrator runs the SQL of this module: the superuser over the container's local socket, or RDS's master user.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.spec.backup_repository import monitoring_sql

DATABASE = "groundwork"
SCHEMA = "groundwork"
EXTENSIONS_SCHEMA = "extensions"
OWNER = "owner"
# Only in stacks with replicas: the role with which members of the cluster replicate. It has no password.
REPLICATOR = "replicator"
SCRAM_ITERATIONS = 4096


@dataclass(frozen=True)
class LoginRole:
    """A role that people and programs log in as.

    `privileges` is the role whose privileges it inherits. `settings` are set by ALTER ROLE ... SET, so they are the
    defaults of every session.
    """

    name: str
    privileges: str
    settings: Mapping[str, str]


# Only a superuser may set these for a role, so the logins of RDS do not have them.
_SUPERUSER_SETTINGS = frozenset({"temp_file_limit", "pg_stat_statements.track"})
_EVERYONE = {"search_path": SCHEMA, "timezone": "UTC"}
_APP = _EVERYONE | {
    "statement_timeout": "30s",
    "temp_file_limit": "256MB",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
}
# pg_stat_statements keeps whole query texts on the disk, without a limit of their length. So readers are not tracked.
_READONLY = _EVERYONE | {
    "statement_timeout": "60s",
    "temp_file_limit": "512MB",
    "pg_stat_statements.track": "none",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "60s",
}
_MONITOR = _EVERYONE | {
    "search_path": EXTENSIONS_SCHEMA,
    "statement_timeout": "10s",
    "temp_file_limit": "64MB",
    "pg_stat_statements.track": "none",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "15s",
}
# sqlx-cli does not run SET ROLE and needs CREATE immediately, so the session starts with role owner.
_MIGRATOR = _EVERYONE | {"role": OWNER, "idle_in_transaction_session_timeout": "5min"}

# Roles that two logins inherit from in turn. A password is rotated by moving to the other login.
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
ALL_LOGINS = tuple(login.name for group in LOGINS.values() for login in group)
# Functions that PUBLIC may execute by default, and that no role needs. The first group creates and fills large objects;
# the last two write WAL, even in a read-only transaction.
_REVOKED_FUNCTIONS = (
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
    "pg_logical_emit_message(bool, text, text)",
    "pg_logical_emit_message(bool, text, bytea)",
)
# Each call creates a file, which temp_file_limit does not count. The owner's parallel pg_dump needs it.
_OWNERS_FUNCTIONS = ("pg_export_snapshot()",)
# Only roles that write may take advisory locks: migrations wait for one whose key anybody can compute.
_ADVISORY_LOCK_FUNCTIONS = tuple(
    f"pg_{attempt}advisory_{scope}lock{mode}({key})"
    for attempt in ("", "try_")
    for scope in ("", "xact_")
    for mode in ("", "_shared")
    for key in ("int8", "int4, int4")
)

# A statement with a verifier must be neither in the server's log, nor in what role monitor can read: pg_stat_activity
# and pg_stat_statements.
_WITHOUT_A_TRACE = tuple(
    f"SET LOCAL {setting};"
    for setting in (
        "log_statement = 'none'",
        "log_min_duration_statement = -1",
        "log_min_duration_sample = -1",
        "log_transaction_sample_rate = 0",
        "log_min_error_statement = 'panic'",
        "track_activities = off",
        "pg_stat_statements.track_utility = off",
    )
)


def login_of(role: str, generation: int) -> str:
    """Return the login with a role's password of this generation. Two logins alternate, starting with the first."""
    logins = LOGINS[role]
    return logins[(generation - 1) % len(logins)].name


def scram_verifier(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """Return a password's SCRAM verifier as pg_authid stores it (RFC 5803), so that no password reaches the server.

    The password must be ASCII, because SASLprep is not applied; generated passwords are. `salt` is 16 random bytes. The
    caller stores it, so that the same password always gives the same verifier.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")

    def b64(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    return f"SCRAM-SHA-256${iterations}:{b64(salt)}${b64(stored_key)}:{b64(server_key)}"


def verifier_digest(verifier: str) -> str:
    """Return a digest by which a verifier is recognized. It is not secret, because the password has 256 random bits."""
    return hashlib.sha256(verifier.encode()).hexdigest()


def roles_sql(verifiers: Mapping[str, str], connection_limits: Mapping[str, int]) -> str:
    """Return SQL for the roles, their settings and verifiers. Run it in database `postgres`, in one transaction.

    `verifiers` maps login names to SCRAM verifiers; a login without one cannot log in. `connection_limits`
    maps the keys of LOGINS to the CONNECTION LIMIT of each of their logins.
    """
    plain = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    lines = list(_WITHOUT_A_TRACE)
    for name in (OWNER, *PRIVILEGE_SETS):
        lines += [
            _create(name),
            f"ALTER ROLE {name} NOLOGIN NOINHERIT {plain} PASSWORD NULL;",
            f"ALTER ROLE {name} RESET ALL;",
        ]
    for role, logins in LOGINS.items():
        for login in logins:
            verifier = verifiers.get(login.name)
            access = "NOLOGIN" if verifier is None else "LOGIN"
            password = "NULL" if verifier is None else _literal(verifier)
            lines += [
                _create(login.name),
                f"ALTER ROLE {login.name} {access} INHERIT {plain}"
                f" CONNECTION LIMIT {connection_limits[role]} PASSWORD {password};",
                f"GRANT {login.privileges} TO {login.name};",
                *_login_settings(login.name, login.settings),
            ]
    lines += _reset_lines()
    lines.append("GRANT pg_monitor TO monitor;")
    # The login gets pg_monitor through two memberships, and both must inherit.
    lines.append("ALTER ROLE monitor INHERIT;")
    return "\n".join(lines) + "\n"


def managed_roles_sql(connection_limits: Mapping[str, int], token_role: str) -> str:
    """Like `roles_sql`, for RDS, where the administrator is not a superuser and logins authenticate with tokens.

    RDS's administrator may not use the keyword NOSUPERUSER; the roles that it creates have none of those attributes
    anyway. It becomes a member of owner, so that it can create the objects that owner owns. Members of `token_role` log
    in with tokens.
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
                *_login_settings(login.name, managed_settings(login)),
            ]
    lines += [
        "GRANT pg_monitor TO monitor;",
        "ALTER ROLE monitor INHERIT;",
        f"GRANT {OWNER} TO CURRENT_USER;",
    ]
    return "\n".join(lines) + "\n"


def managed_grants_sql(database: str = DATABASE) -> str:
    """Like `grants_sql`, without the revokes that only a superuser may run (large object functions)."""
    return "\n".join(_grants(database)) + "\n"


def no_login_sql(logins: Iterable[str]) -> str:
    """Return SQL that takes LOGIN from some logins. A login that does not exist is skipped."""
    return (
        "DO $$ DECLARE login name; BEGIN\n"
        f"  FOR login IN SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolname IN ({quoted(logins)}) LOOP\n"
        "    EXECUTE format('ALTER ROLE %I NOLOGIN', login);\n"
        "  END LOOP;\nEND $$;\n"
    )


# One row, like `12/345 6789`, for each session that is still starting. A client can delay its start for minutes, after
# the check of password and LOGIN (post_auth_delay). Until its end, pg_stat_activity does not show the session, and its
# role is not known.
STARTING_SESSIONS_SQL = """
SELECT virtualtransaction || ' ' || pid FROM pg_locks
WHERE locktype = 'virtualxid' AND pid NOT IN (SELECT pid FROM pg_stat_activity);
"""


def end_sessions_sql(logins: Iterable[str], timeout_ms: int) -> str:
    """Return SQL that ends the sessions of some logins and waits for each. It returns one row for each session."""
    return (
        f"SELECT pg_terminate_backend(pid, {timeout_ms}) FROM pg_stat_activity"
        f" WHERE usename IN ({quoted(logins)});\n"
    )


def database_sql() -> str:
    """Return SQL that creates the database. Run it outside a transaction, and only if the database does not exist."""
    return f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';\n"


def managed_database_sql(ctype: str) -> str:
    """Like `database_sql`, with the server's LC_CTYPE, because RDS may not have C.UTF-8. The sort order is the same."""
    return f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE {_literal(ctype)};\n"


def grants_sql(database: str = DATABASE) -> str:
    """Return SQL that creates the schema and the extensions, and revokes permissive default privileges.

    Run it in the application's database, in one transaction. Tests pass another `database`.
    """
    lines = [
        *_grants(database),
        *(
            f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC;"
            for function in (*_REVOKED_FUNCTIONS, *_OWNERS_FUNCTIONS, *_ADVISORY_LOCK_FUNCTIONS)
        ),
        *(f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {OWNER};" for function in _OWNERS_FUNCTIONS),
        *(
            f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {OWNER}, app;"
            for function in _ADVISORY_LOCK_FUNCTIONS
        ),
        *_default_privilege_lines(),
        monitoring_sql("monitor"),
        # An older groundwork let statements with verifiers be recorded. A temporary server records none.
        "DO $$ BEGIN IF current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%' THEN",
        f"  PERFORM {EXTENSIONS_SCHEMA}.pg_stat_statements_reset(userid, dbid, queryid)",
        f"  FROM {EXTENSIONS_SCHEMA}.pg_stat_statements WHERE query LIKE '%SCRAM-SHA-256$%';",
        "END IF; END $$;",
    ]
    return "\n".join(lines) + "\n"


def quoted(names: Iterable[str]) -> str:
    """Return names as a list of SQL literals, or NULL for none, so that `IN (...)` is valid and matches nothing."""
    return ", ".join(_literal(name) for name in names) or "NULL"


def managed_settings(login: LoginRole) -> dict[str, str]:
    """Return the settings that a login has on RDS, whose administrator is not a superuser."""
    return {key: value for key, value in login.settings.items() if key not in _SUPERUSER_SETTINGS}


def _login_settings(login: str, settings: Mapping[str, str]) -> list[str]:
    return [
        f"ALTER ROLE {login} RESET ALL;",
        *(f"ALTER ROLE {login} SET {key} = {_literal(value)};" for key, value in settings.items()),
    ]


def _reset_lines() -> list[str]:
    """Remove settings of our roles in single databases, which a role can make itself, and foreign memberships."""
    kept = ", ".join(f"({_literal(role)}, {_literal(member)})" for role, member in _MEMBERSHIPS)
    return [
        "DO $$ DECLARE found record; BEGIN",
        "  FOR found IN SELECT rolname, datname FROM pg_db_role_setting JOIN pg_roles ON pg_roles.oid = setrole",
        f"    JOIN pg_database ON pg_database.oid = setdatabase WHERE rolname IN ({_OURS}) LOOP",
        "    EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', found.rolname, found.datname);",
        "  END LOOP;",
        "  FOR found IN SELECT granted.rolname AS role, member.rolname AS member FROM pg_auth_members",
        "    JOIN pg_roles AS granted ON granted.oid = roleid JOIN pg_roles AS member ON member.oid = member",
        f"    WHERE (granted.rolname IN ({_OURS}) OR member.rolname IN ({_OURS}))",
        f"    AND (admin_option OR (granted.rolname, member.rolname) NOT IN (VALUES {kept})) LOOP",
        "    EXECUTE format('REVOKE %I FROM %I CASCADE', found.role, found.member);",
        "  END LOOP;",
        "END $$;",
    ]


def _default_privilege_lines() -> list[str]:
    """Reset the default privileges of our roles, which a role can set itself. Those of the owner are kept.

    Postgres removes an entry that equals the built-in defaults: everything for the role itself, and EXECUTE on
    functions and USAGE on types for PUBLIC. In a schema, the default is nothing.
    """
    return [
        "DO $$ DECLARE entry record; grantee text; target text; BEGIN",
        "  FOR entry IN SELECT oid, defaclrole::regrole AS role, defaclnamespace AS schema, defaclobjtype AS type,",
        "      CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'",
        "        WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END AS types, defaclacl AS acl FROM pg_default_acl",
        f"      WHERE pg_get_userbyid(defaclrole) IN ({_OURS}) AND pg_get_userbyid(defaclrole) <> '{OWNER}' LOOP",
        "    target := 'ALTER DEFAULT PRIVILEGES FOR ROLE ' || entry.role",
        "      || CASE WHEN entry.schema = 0 THEN '' ELSE ' IN SCHEMA ' || entry.schema::regnamespace END;",
        "    FOR grantee IN SELECT CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END",
        "        FROM aclexplode(entry.acl) AS given LOOP",
        "      EXECUTE format('%s REVOKE ALL ON %s FROM %s', target, entry.types, grantee);",
        "    END LOOP;",
        "    IF entry.schema = 0 THEN",
        "      EXECUTE format('%s GRANT ALL ON %s TO %s', target, entry.types, entry.role);",
        "      IF entry.type IN ('f', 'T') THEN",
        "        EXECUTE format('%s GRANT ALL ON %s TO PUBLIC', target, entry.types);",
        "      END IF;",
        "    END IF;",
        "  END LOOP;",
        "END $$;",
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
    """Return SQL that sets which roles may connect to a database. A copied database needs it. Runs in any database."""
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


_MEMBERSHIPS = (
    *((login.privileges, login.name) for group in LOGINS.values() for login in group),
    ("pg_monitor", "monitor"),
)
_OURS = quoted((OWNER, *PRIVILEGE_SETS, *ALL_LOGINS))

# Reads catalogs of the superuser alone. Run it in the application's database, which has the default privileges.
FINGERPRINT_SQL = f"""
SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
    SELECT concat_ws('|', 'role', rolname, rolcanlogin, rolinherit, rolsuper, rolcreatedb, rolcreaterole,
                     rolreplication, rolbypassrls, rolconnlimit, rolpassword, rolvaliduntil) AS line
    FROM pg_authid WHERE rolname IN ({_OURS}, '{REPLICATOR}')
    UNION ALL
    SELECT concat_ws('|', 'setting', setdatabase, rolname, array_to_string(setconfig, ','))
    FROM pg_db_role_setting JOIN pg_authid ON pg_authid.oid = setrole WHERE rolname IN ({_OURS})
    UNION ALL
    SELECT concat_ws('|', 'member', granted.rolname, member.rolname, admin_option)
    FROM pg_auth_members JOIN pg_authid AS granted ON granted.oid = roleid
    JOIN pg_authid AS member ON member.oid = member
    WHERE granted.rolname IN ({_OURS}) OR member.rolname IN ({_OURS})
    UNION ALL
    SELECT concat_ws('|', 'default', rolname, defaclnamespace, defaclobjtype, defaclacl)
    FROM pg_default_acl JOIN pg_authid ON pg_authid.oid = defaclrole
    WHERE rolname IN ({_OURS}) AND rolname <> '{OWNER}'
) AS everything;
"""
