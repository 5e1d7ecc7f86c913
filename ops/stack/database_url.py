"""Select a command's database: the given URL, then the environment's, then the stack's own."""

from __future__ import annotations

import os
from pathlib import Path

from ops.errors import Exit, OpsError, exit_code_of


class _WrongFile(OpsError):
    """DATABASE_URL_FILE does not name a file with a URL."""

    exit_code = Exit.USAGE


def resolve_database_url(given: str | None, *, role: str, stack: str) -> str:
    """Return `given`, DATABASE_URL, the content of DATABASE_URL_FILE's file, or the stack's URL for `role`.

    Raise OpsError (2) if the file cannot be read or is empty, because libpq would connect to its default server.
    """
    if url := given or os.environ.get("DATABASE_URL"):
        return url
    if url_file := os.environ.get("DATABASE_URL_FILE"):
        # Imported late, because most runs do not need it.
        from cache.url_source import UrlSource

        return UrlSource("DATABASE_URL", _WrongFile, file=Path(url_file)).read()
    # Imported late, because it loads the stack's tools, which the access container does not have.
    from ops.stack.connections import database_url

    return database_url(role=role, stack=stack)


def require_database(url: str) -> None:
    """Log in once before a pool does: a pool retries until its deadline and does not report the reason.

    Raise OpsError with the server's message (6), or if the URL is invalid (2).
    """
    from db.migrator import InvalidUrl, Unreachable
    from db.migrator.connection import require_login

    try:
        require_login(url)
    except (InvalidUrl, Unreachable) as error:
        raise OpsError(str(error), exit_code_of(error)) from error


def is_database_named(given: str | None) -> bool:
    """Return whether resolve_database_url uses a URL given by the caller, and not the stack's database."""
    return bool(given or os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"))
