"""Postgres as role monitor sees it, and over the local socket what only a superuser sees; only reads.

Every wait is bounded: a frozen server is an error within seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from db._sync.connection import BoundedConnection
from db.deadline import Deadline
from infra.docker.engine import DockerError, psql
from ops.errors import OpsError
from ops.monitored_stack import MonitoredStack
from ops.server_errors import NotVisible, ServerUnreachable, TooSlow, one_line

CONNECT_SECONDS = 3
# The server gives up a slow query before we take it for frozen.
STATEMENT_SECONDS = 4
ANSWER_SECONDS = 6.0
QUERY_CANCELED = "57014"
Row = Mapping[str, Any]


class MonitoredPostgres:
    """One connection as role monitor, made on first use and made anew after it was lost."""

    def __init__(self, stack: MonitoredStack) -> None:
        self._stack = stack
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
        """What a query gives, as role monitor. ServerUnreachable, or TooSlow."""
        try:
            connection = self._connected()
            connection.deadline = Deadline(ANSWER_SECONDS)
            with connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(query, parameters or None)
                return list(cursor.fetchall())
        except psycopg.Error as error:
            raise self._told(error) from error

    def superuser_rows(self, query: str) -> list[Row]:
        """What a query gives to the superuser of the container, in a transaction that cannot write.

        NotVisible where the target is not Docker.
        """
        if self._stack.postgres_container is None:
            raise NotVisible("only a superuser sees this, over the container's local socket")
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
                raise TooSlow(f"it took longer than {STATEMENT_SECONDS} s") from error
            raise ServerUnreachable(
                f"{self._stack.postgres_container}: {one_line(error)}; see `groundwork status`"
            ) from error
        return list(json.loads(text))

    def _connected(self) -> BoundedConnection:
        if self._connection is None or self._connection.closed:
            self._connection = BoundedConnection.connect(
                self._stack.database_url,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                application_name="groundwork doctor and report",
                options=f"-c statement_timeout={STATEMENT_SECONDS}s -c default_transaction_read_only=on",
            )
        return self._connection

    def _told(self, error: psycopg.Error) -> OpsError:
        if error.sqlstate == QUERY_CANCELED:
            return TooSlow(f"it took longer than {STATEMENT_SECONDS} s")
        if isinstance(error, psycopg.OperationalError):
            return ServerUnreachable(f"{self.name} is not reached: {one_line(error)}")
        return OpsError(f"{self.name} refuses a query of ours: {one_line(error)}")
