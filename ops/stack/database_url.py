"""Select a command's database: the given URL, then the environment's, then the stack's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infra.spec.variables import variable
from ops.errors import Exit, OpsError, exit_code_of
from ops.output import print_line


class _WrongFile(OpsError):
    """DATABASE_URL_FILE does not name a file with a URL."""

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
        host = used["hostaddr"] or used["host"] or "the local socket"
        return f"{host}:{used['port']}/{used['dbname'] or user} as {user}, from {self.origin}"


def select_database(given: str | None, *, role: str, stack: str) -> SelectedDatabase:
    """Return `given`, DATABASE_URL, the content of DATABASE_URL_FILE's file, or the stack's URL for `role`.

    Raise OpsError (2) if the file cannot be read or is empty, because libpq would connect to its default server.
    """
    if given is not None:
        return SelectedDatabase(given, "--url")
    if (url := variable("DATABASE_URL")) is not None:
        return SelectedDatabase(url, "DATABASE_URL")
    if (url_file := variable("DATABASE_URL_FILE")) is not None:
        # Imported late, because most runs do not need it.
        from cache.url_source import UrlSource

        url = UrlSource("DATABASE_URL", _WrongFile, file=Path(url_file)).read()
        return SelectedDatabase(url, "DATABASE_URL_FILE")
    # Imported late, because it loads the stack's tools, which the access container does not have.
    from ops.stack.connections import database_url

    return SelectedDatabase(database_url(role=role, stack=stack), f"stack {stack!r}")


def resolve_database_url(given: str | None, *, role: str, stack: str) -> str:
    """Return the URL of select_database, for a command that only reads."""
    return select_database(given, role=role, stack=stack).url


def database_to_change(given: str | None, *, role: str, stack: str) -> str:
    """Return the URL of select_database, for a command that changes the database. Print which database that is."""
    selected = select_database(given, role=role, stack=stack)
    print_line(f"database: {selected}", err=True)
    return selected.url


def require_database(url: str) -> None:
    """Log in once before a pool does: a pool waits until its deadline for a server that does not answer.

    Raise OpsError with the server's message (6), or if the URL is invalid (2).
    """
    from db.migrator import InvalidUrl, Unreachable
    from db.migrator.connection import require_login

    try:
        require_login(url)
    except (InvalidUrl, Unreachable) as error:
        raise OpsError(str(error), exit_code_of(error)) from error
