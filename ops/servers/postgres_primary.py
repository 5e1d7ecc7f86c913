"""The primary of a Postgres with replicas, found as every client finds it. Changes nothing."""

from __future__ import annotations

from infra.outputs import one_server_url
from ops.servers.errors import ServerUnreachable


def primary_database_url(url: str, stack: str) -> str:
    """Return the URL of the primary among the servers of the stack's `url`. Raise ServerUnreachable without one."""
    import psycopg

    from db.login import refusal_of
    from db.session import connect

    try:
        with connect(url) as connection:
            return one_server_url(url, connection.info.host, connection.info.port)
    except psycopg.Error as error:
        raise ServerUnreachable(
            f"no Postgres server is the primary ({refusal_of(error).reason}); run the command again after the"
            f" failover, or see `groundwork cluster status --stack {stack}`"
        ) from error
