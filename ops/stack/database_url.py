"""Select a command's database: the given URL, then the environment's, then .env's, then the stack's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from infra.spec.checkout import is_checkout
from infra.spec.variables import variable
from ops.errors import Exit, OpsError, exit_code_of
from ops.output import print_line

# Every schema of groundwork has this table, whatever other tables it has. Of the roles that see it, only those that may
# write the data may delete from it.
_ACCESS = """
SELECT current_database(), current_user, t IS NOT NULL, coalesce(has_table_privilege(t, 'DELETE'), false)
FROM to_regclass('cache_outbox') AS t
"""


class _WrongFile(OpsError):
    """DATABASE_URL_FILE does not name a file with a URL."""

    exit_code = Exit.USAGE


class _WrongLogin(OpsError):
    """A setting of the login by IAM is missing or invalid."""

    exit_code = Exit.USAGE


@dataclass(frozen=True)
class SelectedDatabase:
    """The URL of a command's database, and the option, the variable or the stack that it comes from."""

    url: str = field(repr=False)
    origin: str

    def __str__(self) -> str:
        """Describe the database that the URL leads to, without the password."""
        import psycopg
        from psycopg import pq

        from db.session import without_environment

        try:
            given = psycopg.conninfo.conninfo_to_dict(self.url)
        except psycopg.ProgrammingError:
            # The connection fails with a message of its own.
            return f"an invalid URL, from {self.origin}"
        if "service" in given:
            return f"service {given['service']!r}, from {self.origin}"
        defaults = {each.keyword.decode(): (each.val or b"").decode() for each in pq.Conninfo.get_defaults()}
        used = defaults | {name: str(value) for name, value in without_environment(given).items()}
        user = used["user"]
        hosts = (used["hostaddr"] or used["host"] or "the local socket").split(",")
        ports = used["port"].split(",")
        # One port may be that of every host.
        ports = ports * len(hosts) if len(ports) == 1 else ports
        servers = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=False))
        return f"{servers}/{used['dbname'] or user} as {user}, from {self.origin}"


def select_database(
    given: str | None,
    *,
    role: str,
    stack: str,
    variable_name: str = "DATABASE_URL",
    dotenv_from: Path | None = None,
    has_option: bool = True,
) -> SelectedDatabase:
    """Return `given`, DATABASE_URL, the content of DATABASE_URL_FILE's file, or the stack's URL for `role`.

    `variable_name` replaces DATABASE_URL. `dotenv_from` is where to look for a file .env, which counts after the
    environment. `has_option`: the command has the option --url. sqlx's parameters are translated.

    Raise OpsError (2) if a file cannot be read or is empty, because libpq would connect to its default server, and
    without a URL outside of a checkout.
    """
    # Imported late, because it loads psycopg.
    from db.migrator.url import libpq_url

    if given is not None:
        return SelectedDatabase(libpq_url(given), "--url")
    file_name = f"{variable_name}_FILE"
    values, place = {name: variable(name) for name in (variable_name, file_name)}, ""
    if not any(values.values()) and dotenv_from is not None:
        from ops.migrations.dotenv import find_dotenv, read_dotenv

        if (path := find_dotenv(dotenv_from)) is not None:
            content, place = read_dotenv(path), f" of {path}"
            values = {name: content.get(name) for name in values}
            if empty := [name for name, value in values.items() if value is not None and not value.strip()]:
                raise OpsError(
                    f"{empty[0]}{place} is set but empty; remove the line, or give it a value", Exit.USAGE
                )
    # Another variable may name another server, which knows no tokens.
    login = os.environ if variable_name == "DATABASE_URL" else {}
    if (url := values[variable_name]) is not None:
        return SelectedDatabase(with_token(libpq_url(url), login), f"{variable_name}{place}")
    if (url_file := values[file_name]) is not None:
        # Imported late, because most runs do not need it.
        from cache.url_source import UrlSource

        url = UrlSource(variable_name, _WrongFile, file=Path(url_file)).read()
        return SelectedDatabase(with_token(libpq_url(url), login), f"{file_name}{place}")
    if not is_checkout():
        ways = f"{'pass --url, or ' if has_option else ''}set {variable_name} in the environment"
        ways += " or in a file .env" if dotenv_from is not None else ""
        raise OpsError(f"no database is given; {ways}", Exit.USAGE)
    # Imported late, because it loads the stack's tools, which the access container does not have.
    from ops.stack.connections import database_url

    return SelectedDatabase(database_url(role=role, stack=stack), f"stack {stack!r}")


# A token in a URL is valid for 15 minutes, but a session outlives it. A pool must not replace its connections.
TOKEN_POOL_SECONDS = 86_400.0


def with_token(url: str, environment: Mapping[str, str]) -> str:
    """Return the URL, or the same connection string with a login token if the environment's logins are by IAM.

    A URL that has a password is returned as it is. Raise OpsError (2) if the URL does not allow a login by IAM, or if
    no token can be made.
    """
    # Imported late, because most stacks have passwords.
    from cache.aws_login import is_iam

    if not is_iam("GROUNDWORK_DATABASE_LOGIN", _WrongLogin, environment):
        return url
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from db.errors import InvalidSetting
    from db.settings import DatabaseSettings

    names = ("GROUNDWORK_DATABASE_LOGIN", "AWS_REGION")
    login = {name: environment[name] for name in names if name in environment}
    try:
        if conninfo_to_dict(url).get("password"):
            return url
        settings = DatabaseSettings.from_environment({**login, "DATABASE_URL": url})
        token = conninfo_to_dict(settings.unbounded_conninfo()).get("password")
    except ProgrammingError:
        # The connection fails with a message of its own.
        return url
    except InvalidSetting as error:
        raise _WrongLogin(str(error)) from error
    return make_conninfo(url, password=token)


def database_to_change(given: str | None, *, role: str, stack: str) -> str:
    """Return the URL of select_database, for a command that changes the database. Print which database that is."""
    selected = select_database(given, role=role, stack=stack)
    print_line(f"database: {selected}", err=True)
    return selected.url


def require_database(url: str, *, only_reads: bool = False) -> None:
    """Log in once before a pool does: a pool waits until its deadline for a server that does not answer.

    Raise OpsError with the server's message (6), if the URL is invalid (2), or if the database is not one of groundwork
    (1). The same if the login may not write the data, unless the command `only_reads`.
    """
    from db.migrator import InvalidUrl, Unreachable
    from db.migrator.connection import open_connection, reporting_waits

    try:
        with reporting_waits(partial(print_line, err=True)), open_connection(url) as connection:
            ((database, role, has_schema, may_write),) = connection.execute(_ACCESS).fetchall()
    except (InvalidUrl, Unreachable) as error:
        raise OpsError(str(error), exit_code_of(error)) from error
    if not has_schema:
        raise OpsError(
            f"role {role!r} sees no schema of groundwork in database {database!r}; check the URL, or run"
            " `groundwork migrate up` on this database first"
        )
    if not (may_write or only_reads):
        raise OpsError(
            f"role {role!r} may not write the data in database {database!r}; pass the URL of role app"
        )
