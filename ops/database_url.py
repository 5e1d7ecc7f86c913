"""Which database a command means: the URL it was given, else the environment's, else the stack's own."""

from __future__ import annotations

import os
from pathlib import Path

from ops.errors import Exit, OpsError


class _WrongFile(OpsError):
    """DATABASE_URL_FILE names none that holds a URL."""

    exit_code = Exit.USAGE


def resolve_database_url(given: str | None, *, role: str, stack: str) -> str:
    """`given`, DATABASE_URL, the file that DATABASE_URL_FILE names, or the stack's URL for `role`.

    OpsError (2) for a file that cannot be read or is empty: libpq would go somewhere of its own.
    """
    if url := given or os.environ.get("DATABASE_URL"):
        return url
    if url_file := os.environ.get("DATABASE_URL_FILE"):
        # Late, for most runs do without it.
        from cache.url_source import UrlSource

        return UrlSource("DATABASE_URL", _WrongFile, file=Path(url_file)).read()
    # Late, for it drives the stack's tools, which the access container has not.
    from ops.connections import database_url

    return database_url(role=role, stack=stack)


def require_database(url: str) -> None:
    """Log in once, before a pool does: a pool tries again until its deadline, and does not say what is wrong.

    OpsError with the server's own words (6), or that it is no URL (2).
    """
    from db.migrator import InvalidUrl, Unreachable
    from db.migrator.connection import require_login

    try:
        require_login(url)
    except InvalidUrl as error:
        raise OpsError(str(error), Exit.USAGE) from error
    except Unreachable as error:
        raise OpsError(str(error), Exit.UNREACHABLE) from error


def is_database_named(given: str | None) -> bool:
    """Whether resolve_database_url takes a URL of the caller's; otherwise it is the stack's database."""
    return bool(given or os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"))
