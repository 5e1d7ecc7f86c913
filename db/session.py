"""The settings that every Postgres session of groundwork has, whatever the environment, the role or the URL sets.

For each parameter that a connection string leaves out, libpq uses a PG* variable. This module overrides these
variables. The session's settings are in the connection's first message, so they have priority over those of the role.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

ENCODING = "UTF8"
# The settings on which the reading and writing of values depends. sqlx also sets the first two, and the encoding.
PINS: Mapping[str, str] = {
    "datestyle": "ISO,MDY",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
}
# The settings that the server reports without being asked, and how it writes them.
_REPORTED = {
    b"client_encoding": b"UTF8",
    b"DateStyle": b"ISO, MDY",
    b"TimeZone": b"UTC",
    b"IntervalStyle": b"postgres",
    b"standard_conforming_strings": b"on",
}
# What a session is repaired with: PINS, and the encoding, which is a parameter of the connection.
REPAIRED: Mapping[str, str] = {"client_encoding": ENCODING, **PINS}
REPAIR = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in REPAIRED.items())
# libpq sends these with every connection, and no parameter overrides them.
SENT_BY_LIBPQ = {"PGTZ": "timezone", "PGDATESTYLE": "datestyle", "PGGEQO": "geqo"}
# The parameters whose PG* variable is used, unless the connection string has one of the parameters listed with them.
HONOURED = {
    "host": {"host", "hostaddr"},
    "port": {"port", "host", "hostaddr"},
    "user": {"user"},
    "dbname": {"dbname"},
    "password": {"password"},
    "passfile": {"password", "passfile"},
    "sslmode": {"sslmode"},
    "sslrootcert": {"sslmode", "sslrootcert"},
}
# libpq's built-in values, for parameters that cannot be empty and whose built-in value libpq does not report.
_BUILT_IN = {
    "connect_timeout": "0",
    "sslcertmode": "allow",
    # An empty value allows no method at all. This value allows all methods that exist outside of Windows.
    "require_auth": "!sspi",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}
# Parameters that have no variable and cannot be empty. Only a service of libpq can set them.
_LEFT_TO_SERVICES = {
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    *("scram_client_key", "scram_server_key"),
}


def connect(
    conninfo: str | Mapping[str, Any], *, search_path: str | None = None, **parameters: Any
) -> psycopg.Connection[Any]:
    """Open a plain connection in autocommit mode with `pinned_conninfo`. Close it, or use it as a context manager."""
    pinned = pinned_conninfo(conninfo, search_path=search_path, **parameters)
    connection = psycopg.connect(pinned, autocommit=True)
    if not is_pinned(connection.pgconn):
        try:
            connection.execute(REPAIR)
        except BaseException:
            connection.close()
            raise
    return connection


def pinned_conninfo(
    conninfo: str | Mapping[str, Any],
    *,
    search_path: str | None = None,
    options: str = "",
    **parameters: object,
) -> str:
    """Return a connection string that contains the session's settings, and that PG* variables do not change.

    The options of `conninfo` have priority over `options`, and `PINS` over both. `parameters` replace those of
    `conninfo`. Without `search_path` the role's own applies. Raises psycopg.ProgrammingError for an invalid string.
    """
    given = conninfo_to_dict(conninfo) if isinstance(conninfo, str) else dict(conninfo)
    given |= {name: str(value) for name, value in parameters.items()}
    pins = {**PINS, "search_path": search_path} if search_path else PINS
    pinned = " ".join(f"-c {name}={value}" for name, value in pins.items())
    given["options"] = " ".join(filter(None, (options, str(given.get("options") or ""), pinned)))
    given["client_encoding"] = ENCODING
    return make_conninfo("", **without_environment(given))


def without_environment(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return connection parameters to which libpq adds nothing from PG* variables, except those of docs/connections.md.

    If `given` names a service, libpq reads the other parameters from the service and from its variables.
    """
    complete = {"options": "", **given}
    if "service" in given:
        return complete
    by_service = "PGSERVICE" in os.environ
    for option in pq.Conninfo.get_defaults():
        name, variable = option.keyword.decode(), (option.envvar or b"").decode()
        if name in complete or name in ("service", *_LEFT_TO_SERVICES):
            continue
        value = os.environ.get(variable)
        if name in HONOURED and HONOURED[name].isdisjoint(given) and value is not None:
            complete[name] = value
        elif value is not None or by_service or (name == "sslmode" and "PGREQUIRESSL" in os.environ):
            complete[name] = _built_in(name, option.compiled)
    return complete


def is_mangled(given: Mapping[str, Any]) -> bool:
    """Return whether a URL was split at the wrong place, because its password is not percent-encoded.

    A part of the password is then in the host, port or database, which libpq quotes in its messages.
    """
    host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
    has_port = all(part.isdecimal() for part in port.split(",") if part)
    return "@" in host or not has_port or ("@" in database and not given.get("user"))


def variable_at_fault(message: str) -> str | None:
    """Return the PG* variable that made libpq or the server refuse a connection with this message, or None.

    It is one of the variables that no parameter overrides, and its value is invalid.
    """
    if "definition of service" in message and "PGSERVICE" in os.environ:
        return "PGSERVICE"
    for variable, setting in SENT_BY_LIBPQ.items():
        if variable in os.environ and f'parameter "{setting}"' in message.lower():
            return variable
    return None


def is_pinned(connection: pq.abc.PGconn) -> bool:
    """Return whether the session has the settings, as far as the server reports them. Needs no round trip.

    Returns False if libpq sent a PG* variable that cannot be overridden, or if a pooler dropped the options.
    """
    return all(connection.parameter_status(name) == value for name, value in _REPORTED.items())


def _built_in(name: str, compiled: bytes | None) -> str:
    if name == "user":
        return pwd.getpwuid(os.geteuid()).pw_name
    return _BUILT_IN.get(name, (compiled or b"").decode())
