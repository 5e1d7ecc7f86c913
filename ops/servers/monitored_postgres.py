"""Read-only access to Postgres as one role, usually monitor, and as superuser over the local socket.

Every wait is bounded, so that a frozen server becomes an error within seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row

from db._sync.connection import BoundedConnection
from db.deadline import Deadline
from db.hosts import failures_by_server
from db.login import refusal_of
from db.session import pinned_conninfo
from infra.docker.engine import DockerError, psql
from ops.errors import OpsError
from ops.servers.errors import NotVisible, ServerUnreachable, TooSlow, one_line
from ops.servers.monitored_stack import MonitoredStack
from ops.stack.database_url import with_token

CONNECT_SECONDS = 3
# Shorter than ANSWER_SECONDS: the server cancels a slow query before the client considers the server frozen.
STATEMENT_SECONDS = 4
ANSWER_SECONDS = 6.0
QUERY_CANCELED = "57014"
# SQL for the number of connections that logins other than superusers share. RDS reserves some more for its own.
CONNECTION_LIMIT = """(current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(nullif(current_setting('rds.rds_superuser_reserved_connections', true), '')::int, 0))"""
Row = Mapping[str, Any]
T = TypeVar("T")


class MonitoredPostgres:
    """One connection as the role of the stack's `database_url`, opened on first use and reopened after a loss."""

    def __init__(self, stack: MonitoredStack, application_name: str = "groundwork doctor and report") -> None:
        self._stack = stack
        self._application_name = application_name
        self._connection: BoundedConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def name(self) -> str:
        host, port = self._stack.postgres_address
        return f"Postgres at {host}:{port}"

    def rows(self, query: str, **parameters: object) -> list[Row]:
        """Return the rows of a query. Raises ServerUnreachable or TooSlow."""

        def fetch(connection: BoundedConnection) -> list[Row]:
            with connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(query, parameters or None)
                return list(cursor.fetchall())

        return self.ask(fetch)

    def ask(self, question: Callable[[BoundedConnection], T]) -> T:
        """Call `question` with the connection and return its result. Raises ServerUnreachable or TooSlow."""
        try:
            connection = self._connected()
            connection.deadline = Deadline(ANSWER_SECONDS)
            return question(connection)
        except psycopg.Error as error:
            raise self._translated(error) from error

    def superuser_rows(self, query: str) -> list[Row]:
        """Run a query as the container's superuser, in a read-only transaction, and return its rows.

        Raise NotVisible if the stack is not on Docker, or if `docker exec` or the query fails. Raise TooSlow.
        """
        if self._stack.postgres_container is None:
            raise NotVisible("only a superuser can see this, over the container's local socket")
        statement = (
            f"BEGIN READ ONLY; SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s';\n"
            f"SELECT coalesce(json_agg(answer), '[]') FROM (\n{query}\n) AS answer;\nCOMMIT;\n"
        )
        try:
            text = psql(
                self._stack.postgres_container,
                statement,
                database=self._stack.database,
                timeout_seconds=ANSWER_SECONDS,
            )
        except DockerError as error:
            if "statement timeout" in str(error):
                raise TooSlow(f"the query took longer than {STATEMENT_SECONDS} s") from error
            # Another check reports whether Postgres can be reached, over TCP.
            raise NotVisible(f"{self._stack.postgres_container}: {one_line(error)}") from error
        return list(json.loads(text))

    def _connected(self) -> BoundedConnection:
        if self._connection is None or self._connection.closed:
            try:
                url = with_token(self._stack.database_url, self._stack.login)
            except OpsError as error:
                raise ServerUnreachable(f"cannot log in to {self.name}: {error}") from error
            conninfo = pinned_conninfo(
                url,
                connect_timeout=CONNECT_SECONDS,
                application_name=self._application_name,
                options=f"-c statement_timeout={STATEMENT_SECONDS}s -c default_transaction_read_only=on",
            )
            self._connection = BoundedConnection.connect(conninfo, autocommit=True)
        return self._connection

    def _translated(self, error: psycopg.Error) -> OpsError:
        if error.sqlstate == QUERY_CANCELED:
            return TooSlow(f"the query took longer than {STATEMENT_SECONDS} s")
        if isinstance(error, psycopg.OperationalError):
            names, failures = self._stack.postgres_servers, failures_by_server(error)
            if names and failures:
                return _no_primary(names, failures)
            return ServerUnreachable(f"cannot reach {self.name}: {one_line(error)}")
        return OpsError(f"{self.name} rejects a query: {one_line(error)}")


def _no_primary(names: Mapping[str, str], failures: Mapping[str, str]) -> ServerUnreachable:
    """Return the error of a cluster of which no server is a primary that can be reached. `names` are by host:port."""
    found = ServerUnreachable(f"no primary among {', '.join(names.values())}")
    found.servers = {name: _state(failures.get(address, "not tried")) for address, name in names.items()}
    return found


def _state(failure: str) -> str:
    if "server is in hot standby mode" in failure:
        return "replica"
    reason = refusal_of(psycopg.OperationalError(failure)).reason
    # The server is known by its name.
    return re.sub(r"^connection to server at .*? failed: ", "", reason)
