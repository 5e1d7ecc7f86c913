"""The migrator's connection strings: sqlx's URL parameters, and the schema and the ledger that a string selects.

sqlx has spellings and parameters that libpq rejects: `ssl-mode`, `ssl-root-cert`, `options[search_path]`,
`statement-cache-capacity`. They are translated, so that one DATABASE_URL serves both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from urllib.parse import quote, unquote, unquote_plus

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from db.migrator.errors import InvalidUrl

SEARCH_PATH = "search_path"
# The ledger's table as an SQL name, with or without a schema. Only the migrator reads this setting.
LEDGER = "groundwork.ledger"
# The search_path of programs that use the same URL without the project's settings. LOGIN_PATH stands for the login's,
# which open_connection reads from the server. It is set only if the settings select a schema, and do not name the
# ledger with a schema.
DEFAULT_PATH = "groundwork.default_path"
LOGIN_PATH = "$login"

# sqlx-postgres, src/options/parse.rs.
_SPELLINGS = {
    "ssl-mode": "sslmode",
    "ssl-root-cert": "sslrootcert",
    "ssl-ca": "sslrootcert",
    "ssl-cert": "sslcert",
    "ssl-key": "sslkey",
}
_OPTION = re.compile(r"options\[(?P<name>[^]]+)]")
_SCHEMES = ("postgres://", "postgresql://")
# The beginning of another program's URL, which has no password.
_SCHEME = re.compile(r"(?:jdbc:)?[A-Za-z][A-Za-z0-9+.-]*://")
# The size of a cache that only sqlx has.
_CACHE = "statement-cache-capacity"
# In libpq's parameter `options`, a backslash escapes a blank and itself.
_ESCAPED = re.compile(r"[\s\\]")
_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)


def libpq_url(url: str) -> str:
    """Return the URL with libpq's parameters only. Other connection strings, such as `host=...`, are unchanged.

    Raises InvalidUrl for another program's URL, for a parameter that neither libpq nor sqlx has, and for a value that
    sqlx rejects.
    """
    if not url.startswith(_SCHEMES) and (scheme := _SCHEME.match(url)):
        raise InvalidUrl(
            f"the database URL begins with {scheme[0]}, so it is not a Postgres URL; write postgres:// or postgresql://"
        )
    base, mark, query = url.partition("?")
    if not mark or not url.startswith(_SCHEMES):
        return url
    # libpq accepts JDBC's `ssl` only in URLs, so get_defaults() does not contain it.
    known = {"ssl", *(option.keyword.decode() for option in pq.Conninfo.get_defaults())}
    kept: list[str] = []
    options: list[str] = []
    for pair in query.split("&"):
        raw_name, _, raw_value = pair.partition("=")
        name, value = unquote(raw_name), unquote(raw_value)
        if (option := _OPTION.fullmatch(name)) is not None:
            options.append(_option(option["name"], unquote_plus(raw_value)))
        elif name == "options":
            options.append(value)
        elif name == _CACHE:
            if not (value.isascii() and value.isdecimal()):
                raise InvalidUrl(f"{_CACHE} of the database URL is not a number; give a number, or omit it")
        elif _SPELLINGS.get(name, name) == "sslmode":
            # sqlx accepts capital letters.
            kept.append(f"sslmode={quote(value.lower())}")
        elif name in _SPELLINGS:
            kept.append(f"{_SPELLINGS[name]}={raw_value}")
        # If a password has a question mark that is not percent-encoded, `name` is part of it and must not be shown.
        elif pair and name not in known and "@" not in query:
            raise InvalidUrl(
                f"the database URL has the parameter {name!r}, which neither libpq nor sqlx has; remove it"
            )
        elif pair:
            kept.append(pair)
    if options:
        kept.append(f"options={quote(' '.join(options))}")
    return f"{base}?{'&'.join(kept)}" if kept else base


def with_session(conninfo: str, settings: Mapping[str, str]) -> str:
    """Return the connection string with settings of the session. Raises psycopg.ProgrammingError for an invalid one.

    A search_path that the string itself sets becomes the value of DEFAULT_PATH, if that is among the settings.
    """
    if not settings:
        return conninfo
    given = conninfo_to_dict(libpq_url(conninfo))
    own = str(given.get("options") or "")
    if DEFAULT_PATH in settings:
        settings = {**settings, DEFAULT_PATH: session_of(own).get(SEARCH_PATH, settings[DEFAULT_PATH])}
    options = [own, *(_option(*setting) for setting in settings.items())]
    return make_conninfo("", **{**given, "options": " ".join(filter(None, options))})


def with_login_path(options: str, search_path: str) -> str:
    """Return libpq's parameter `options` with the login's search_path in place of LOGIN_PATH."""
    return f"{options} {_option(DEFAULT_PATH, search_path)}"


def without_search_path(options: str) -> str:
    """Return libpq's parameter `options` without those that set the search_path."""
    words = _words(options)
    given = (" ".join(map(_escaped, (word, *islice(words, word == "-c")))) for word in words)
    return " ".join(option for option in given if SEARCH_PATH not in session_of(option))


def session_of(options: str) -> dict[str, str]:
    """Return SEARCH_PATH, LEDGER and DEFAULT_PATH of libpq's parameter `options`, without those it does not set."""
    found = {}
    for setting in _settings(options):
        name, separator, value = setting.partition("=")
        # Postgres ignores the case, and takes a dash for an underscore.
        name = name.replace("-", "_").lower()
        if separator and name in (SEARCH_PATH, LEDGER, DEFAULT_PATH):
            found[name] = value
    return found


def _settings(options: str) -> Iterator[str]:
    words = _words(options)
    for word in words:
        if word == "-c":
            yield next(words, "")
        elif word.startswith(("-c", "--")):
            yield word[2:]


def _words(options: str) -> Iterator[str]:
    return (re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _WORD.findall(options))


def _option(name: str, value: str) -> str:
    return f"-c {name}={_escaped(value)}"


def _escaped(value: str) -> str:
    return _ESCAPED.sub(r"\\\g<0>", value)
