"""groundwork serve: the access service in the foreground."""

from __future__ import annotations

import click


@click.command("serve")
@click.option(
    "--host", envvar="GROUNDWORK_HOST", default="0.0.0.0", show_default=True, help="Address to listen on."
)
@click.option(
    "--port", envvar="GROUNDWORK_PORT", type=click.IntRange(0, 65535), default=8080, show_default=True,
    help="Port to listen on; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--pool-size", envvar="GROUNDWORK_POOL_SIZE", type=click.IntRange(1, 10_000), default=8,
    show_default=True,
    help="Connections to Postgres at most.",
)  # fmt: skip
@click.option(
    "--instances", envvar="GROUNDWORK_INSTANCES", type=click.IntRange(1, 1000), default=1, show_default=True,
    help="How many of this service share the role's connection limit.",
)  # fmt: skip
@click.option(
    "--warm-limit", envvar="GROUNDWORK_WARM_LIMIT", default=1000, show_default=True, type=click.IntRange(0, 1_000_000),
    help="Records of each kind that are cached at start; 0: none.",
)  # fmt: skip
@click.option(
    "--log-level", envvar="GROUNDWORK_LOG_LEVEL", default="info", show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]), help="The least that is logged.",
)  # fmt: skip
def serve(host: str, port: int, pool_size: int, instances: int, warm_limit: int, log_level: str) -> None:
    """Run the access service: /healthz, /readyz, /metrics, and the outbox's drainer.

    Reads DATABASE_URL and REDIS_URL, or the files that DATABASE_URL_FILE and REDIS_URL_FILE name. It starts
    whether or not the servers are there, and is ready once they are and the schema is as expected.
    """
    from dataclasses import replace

    from cache.settings import CacheSettings
    from db import AsyncDataAccess
    from db.settings import DatabaseSettings
    from ops.serve.app import make_app
    from ops.serve.logs import configure_logging
    from ops.serve.server import bind, run

    configure_logging(log_level)
    # One beside the pool: the outbox's drainer listens on a connection of its own.
    database = replace(
        DatabaseSettings.from_environment(), pool_size=pool_size, instances=instances, beside_pool=1
    )
    cache = CacheSettings.from_environment()
    # Both are read now, so that a mistake in them is told at once and not by a service that is never ready.
    database.conninfo()
    cache.server_url()
    run(make_app(AsyncDataAccess(database, cache), warm_limit), bind(host, port))
