"""`groundwork cache`: what an operator does with the cache."""

from __future__ import annotations

import click


@click.group()
def cache() -> None:
    """Warm the cache."""


@cache.command()
@click.option(
    "--limit",
    default=1000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Records of each kind.",
)
@click.option(
    "--rate",
    default=1000,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Records a second at most.",
)
@click.option("--stack", default="dev", show_default=True, help="The stack, where REDIS_URL is not set.")
def warm(limit: int, rate: int, stack: str) -> None:
    """Cache the hottest users, repositories and organizations; what is cached already stays."""
    from ops.cache_warming import warm_from_here

    done = warm_from_here(
        stack, limit, rate, lambda kind, n, total: click.echo(f"{kind}: {n} of {total}", err=True)
    )
    click.echo("cached now: " + ", ".join(f"{n} {kind}" for kind, n in done.items()))
