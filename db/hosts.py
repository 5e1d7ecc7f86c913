"""The servers that a connection string lists: in which order a pool tries them, and when its connections are outdated.

The object is plain data. All threads of a process use it, and a forked child keeps what its parent has found out.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from random import shuffle
from time import monotonic
from typing import Any

import psycopg
from psycopg import errors as sql_errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn

from cache.login_token import LoginTokens

# How long a server that did not answer is tried after all others.
_SLOW_SECONDS = 30.0
# The server ends its sessions, also those that are idle.
_ENDING_STATES = {
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
}
# Also the state of a write in a transaction that is read-only on purpose.
_READ_ONLY_STATE = "25006"
# A line of a merged error.
_FAILURE = re.compile(r"^- host: '(.*?)', port: '(.*?)': (.*)$", re.MULTILINE)
_LISTED = ("host", "hostaddr", "port")


@dataclass(frozen=True)
class Attempt:
    """A connection string with one server. `host` and `port` are as the whole string has them."""

    host: str
    port: str
    conninfo: str
    # Whether the string asks for a random order. Then a connection to another server means nothing.
    is_random: bool = False

    @property
    def server(self) -> tuple[str, str]:
        return self.host, self.port


class Hosts:
    """What a pool knows about its servers. `moves` is not empty if the pool's connections have to be replaced."""

    def __init__(self, tokens: LoginTokens | None = None, *, are_replicas: bool = False) -> None:
        """`tokens` is the source of passwords, if the connection string has none.

        Replicas are tried in a random order, and may refuse writes.
        """
        self._tokens = tokens
        self._are_replicas = are_replicas
        self.moves: deque[None] = deque()
        # Whether a call has waited for an answer until its deadline: the server may be slow, or frozen.
        self.is_silent = False
        self._last: tuple[str, str] | None = None
        self._slow_until: dict[tuple[str, str], float] = {}
        self._drained_at = -1.0

    def attempts(self, conninfo: str) -> list[Attempt]:
        """Return the attempts to make, in order, until one succeeds.

        The server to which the pool connected last comes first, and those that did not answer come last.
        """
        given: dict[str, Any] = conninfo_to_dict(conninfo)
        servers = _servers(given)
        if servers is None:
            return [Attempt(str(given.get("host")), str(given.get("port")), conninfo)]
        # Taken out, because libpq knows it only since version 16.
        is_random = given.pop("load_balance_hosts", None) == "random" or self._are_replicas
        if is_random:
            shuffle(servers)
        now = monotonic()
        attempts = [
            Attempt(str(each.get("host")), str(each.get("port")), make_conninfo("", **each), is_random)
            for each in (given | server | self._password(given, server) for server in servers)
        ]
        attempts.sort(key=lambda each: not is_random and each.server != self._last)
        attempts.sort(key=lambda each: self._slow_until.get(each.server, now) > now)
        return attempts

    def _password(self, given: Mapping[str, Any], server: Mapping[str, str]) -> dict[str, str]:
        if self._tokens is None:
            return {}
        return {"password": self._tokens.current(server["host"], server["port"], str(given["user"]))}

    def connected(self, attempt: Attempt) -> None:
        """Record a new connection. If it leads to another server than the last one, the pool is outdated."""
        self._slow_until.pop(attempt.server, None)
        last, self._last = self._last, attempt.server
        if not attempt.is_random and last not in (None, attempt.server):
            self.moves.append(None)

    def failed(self, attempt: Attempt, error: psycopg.Error) -> None:
        """Record a failed attempt."""
        if isinstance(error, sql_errors.ConnectionTimeout):
            self._slow_until[attempt.server] = monotonic() + _SLOW_SECONDS

    def leads_to_replica(self, connection: PGconn, created_at: float, error: psycopg.Error) -> bool:
        """Return whether a write failed because its server is no longer the primary. Record if the pool is outdated."""
        is_replica = (
            error.sqlstate == _READ_ONLY_STATE and not self._are_replicas and is_replica_session(connection)
        )
        # A connection that is older than the last replacement says nothing about the current ones.
        if (is_replica or error.sqlstate in _ENDING_STATES) and created_at > self._drained_at:
            self.moves.append(None)
        return is_replica

    def drained(self) -> None:
        """Record that all connections are going to be replaced."""
        self._drained_at = monotonic()
        self.moves.clear()


def is_replica_session(connection: PGconn) -> bool:
    """Return whether the session's server is a replica, as the server has reported. Needs no round trip."""
    return connection.parameter_status(b"in_hot_standby") == b"on"


def merged(failures: list[tuple[Attempt, psycopg.Error]]) -> psycopg.Error:
    """Return an error with the reasons of all failed attempts, in the driver's format."""
    _, last = failures[-1]
    if len(failures) == 1:
        return last
    lines = [str(last), "Multiple connection attempts failed. All failures were:"]
    lines += [f"- host: {attempt.host!r}, port: {attempt.port!r}: {error}" for attempt, error in failures]
    return type(last)("\n".join(lines), pgconn=last.pgconn)


def failures_by_server(error: psycopg.Error) -> dict[str, str]:
    """Return the failures of a `merged` error by host:port. Empty if there was only one attempt."""
    return {f"{host}:{port}": text for host, port, text in _FAILURE.findall(str(error))}


def _servers(given: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """Return the parameters that differ between the servers, or None if there is one server.

    The driver reports a string whose lists do not fit together.
    """
    lists = {name: str(given[name]).split(",") for name in _LISTED if given.get(name)}
    count = max(len(lists.get("host", ())), len(lists.get("hostaddr", ())))
    if len(lists.get("port", ())) == 1:
        lists["port"] *= count
    if count <= 1 or any(len(values) != count for values in lists.values()):
        return None
    servers = [{name: values[n] for name, values in lists.items()} for n in range(count)]
    if given.get("target_session_attrs") != "prefer-standby":
        return servers
    return [{**server, "target_session_attrs": wanted} for wanted in ("standby", "any") for server in servers]
