"""`groundwork serve`: run the access service in the foreground."""

from __future__ import annotations

import click

from ops.number_range import IntegerRange


@click.command("serve")
@click.option(
    "--host", envvar="GROUNDWORK_HOST", default="0.0.0.0", show_default=True, help="Address to listen on"
)
@click.option(
    "--port", envvar="GROUNDWORK_PORT", type=IntegerRange(0, 65535), default=8080, show_default=True,
    help="Port to listen on; 0 picks a free one",
)  # fmt: skip
@click.option(
    "--pool-size", envvar="GROUNDWORK_POOL_SIZE", type=IntegerRange(1, 10_000), default=8,
    show_default=True,
    help="Connections to Postgres, at most",
)  # fmt: skip
@click.option(
    "--instances", envvar="GROUNDWORK_INSTANCES", type=IntegerRange(1, 1000), default=1, show_default=True,
    help="Number of services that share the role's connection limit",
)  # fmt: skip
@click.option(
    "--warm-limit", envvar="GROUNDWORK_WARM_LIMIT", default=1000, show_default=True, type=IntegerRange(0, 1_000_000),
    help="Records of each kind to cache at start; 0 for none",
)  # fmt: skip
@click.option(
    "--log-level", envvar="GROUNDWORK_LOG_LEVEL", default="info", show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]), help="Lowest level to log",
)  # fmt: skip
def serve(host: str, port: int, pool_size: int, instances: int, warm_limit: int, log_level: str) -> None:
    """Run the access service

    Serves /healthz, /readyz and /metrics, and processes the outbox. Reads DATABASE_URL and REDIS_URL, or the files
    named by DATABASE_URL_FILE and REDIS_URL_FILE. The service starts even if the servers are down. It is ready as soon
    as both answer and the schema has the expected version.
    """
    from dataclasses import replace

    from cache.settings import CacheSettings
    from db import AsyncDataAccess
    from db.settings import DatabaseSettings
    from ops.serve.app import make_app
    from ops.serve.drainer import REDIS_SECONDS
    from ops.serve.logs import configure_logging
    from ops.serve.server import bind, run

    configure_logging(log_level)
    # One connection beside the pool: the outbox's drainer listens on its own. The service reads no records, so it needs
    # no replicas, and a near cache would ping Redis ten times a second.
    database = replace(
        DatabaseSettings.from_environment(),
        read_url=None,
        pool_size=pool_size,
        instances=instances,
        beside_pool=1,
    )
    cache = replace(CacheSettings.from_environment(), near_entries=0, timeout_seconds=REDIS_SECONDS)
    # Parse both URLs now, so that a mistake is reported at once instead of by a service that is never ready.
    database.conninfo()
    cache.server_urls()
    run(make_app(AsyncDataAccess(database, cache), warm_limit), bind(host, port))
