"""`groundwork cache`: inspect, flush and warm the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from db.entities import CACHED
from ops.commands.names import is_stack_given, stack_option
from ops.number_range import IntegerRange
from ops.output import print_json, print_line, print_lines

_stack = stack_option("Stack whose cache to use if REDIS_URL is not set")
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
_entity = click.Choice(CACHED)
_many = IntegerRange(1, 1_000_000)


@click.group()
def cache() -> None:
    """Inspect, flush and warm the cache

    Exit codes: 6 if a server cannot be reached or rejects the login, 7 without confirmation.
    """


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Invalidate the whole namespace")
@click.option("--entity", "entities", type=_entity, multiple=True, help="Kind of record or feed (repeatable)")
@click.option("--pattern", metavar="GLOB", help="Keys that match, e.g. v1:user:{7*}")
@click.option("--dry-run", is_flag=True, help="Show what would be invalidated, and change nothing")
@click.option("--reclaim", "reclaims", is_flag=True, help="Also free the entries' memory at once")
@click.option(
    "--rate", default=20_000, show_default=True, type=_many, help="Keys to delete per second, at most"
)
@click.option("--warm", "warm_limit", type=_many, help="Then cache this many of the hottest of each kind")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation")
@click.option("--confirm", "confirmed", metavar="NAME", help="Confirm a production-like NAME; use with --yes")
@_stack
@_json
def flush(
    everything: bool,
    entities: tuple[str, ...],
    pattern: str | None,
    dry_run: bool,
    reclaims: bool,
    rate: int,
    warm_limit: int | None,
    yes: bool,
    confirmed: str | None,
    stack: str,
    as_json: bool,
) -> None:
    """Invalidate cached entries

    Returns when no reader can serve them any more.
    """
    from ops.cache import flush as flushing
    from ops.cache.server import names_its_redis, open_cache_server
    from ops.errors import Exit, OpsError

    if (everything, bool(entities), pattern is not None).count(True) != 1:
        raise click.UsageError("pass exactly one of --all, --entity and --pattern")
    if names_its_redis() and is_stack_given():
        raise OpsError(
            "REDIS_URL and --stack both select a cache; unset REDIS_URL or omit --stack", Exit.USAGE
        )
    scope = flushing.Scope(tuple(dict.fromkeys(entities)), pattern)
    # Before anything is invalidated, because it may refuse.
    warm_up = None if warm_limit is None else _warming(stack, warm_limit, 1000)
    count = None
    with open_cache_server(stack) as server:
        _say(f"Redis: {server.description}")
        if dry_run:
            count = flushing.preview(server, scope, _say)
        else:
            done = flushing.flush(
                server, scope, rate=rate, reclaims=reclaims, yes=yes, confirmed=confirmed, say=_say
            )
    if count is not None:
        found = {"dryRun": True, "scope": scope.name, **flushing.count_as_json(count)}
        _show(found, flushing.count_as_lines(count, scope, server), as_json)
        return
    result: dict[str, Any] = {
        "dryRun": False, "scope": done.scope, "keys": done.keys, "seconds": done.seconds, "warmed": None,
    }  # fmt: skip
    keys = "" if done.keys is None else f", {done.keys} keys deleted"
    lines = [f"invalidated in {server}: {scope}{keys} ({done.seconds:.1f} s)"]
    if warm_up is not None:
        result["warmed"] = warm_up()
        lines.append(_warmed(result["warmed"]))
    _show(result, lines, as_json)


@cache.command()
@click.option("--sample", default=10_000, show_default=True, type=_many, help="Number of keys to sample")
@click.option("--metrics-url", help="/metrics URL of an access service [default: the stack's]")
@_stack
@_json
def stats(sample: int, metrics_url: str | None, stack: str, as_json: bool) -> None:
    """Show hit rates, memory, evictions and the epoch

    A sample of the keys gives the number, size and TTL of the entries of each entity.
    """
    from ops.cache.server import open_cache_server
    from ops.cache.stats import as_lines
    from ops.cache.stats import stats as stats_of

    is_given = metrics_url is not None

    def say_if_given(reason: str) -> None:
        # A stack's access service may be down, and nobody asked for its metrics.
        if is_given:
            _say(f"--metrics-url is not used: {reason}")

    with open_cache_server(stack) as server:
        if metrics_url is None and server.stack is not None:
            from ops.stack.connections import access_url

            metrics_url = f"{access_url(server.stack)}/metrics"
        found = stats_of(server, sample, metrics_url, say_if_given)
    _show(found, as_lines(found), as_json)


@cache.command()
@click.argument("entity", type=_entity)
@click.argument("record_id", metavar="ID", type=int)
@_stack
@_json
def get(entity: str, record_id: int, stack: str, as_json: bool) -> None:
    """Show the cached entry of one record or one owner's feed

    Prints the entry's header, its TTL and the decoded value.
    """
    from ops.cache.entry import as_lines, entry_of
    from ops.cache.server import open_cache_server

    with open_cache_server(stack) as server:
        found = entry_of(server, entity, record_id)
    _show(found, as_lines(found), as_json)


@cache.command()
@click.option("--entity", type=_entity, help="Kind of record or feed")
@click.option("--pattern", metavar="GLOB", help="Keys that match, e.g. v1:user:{7*}")
@click.option("--limit", default=100, show_default=True, type=_many, help="Number of keys to show, at most")
@_stack
@_json
def keys(entity: str | None, pattern: str | None, limit: int, stack: str, as_json: bool) -> None:
    """List keys with their remaining TTL and size"""
    from cache.inspection import list_matching
    from ops.cache.flush import Scope
    from ops.cache.server import open_cache_server

    if entity is not None and pattern is not None:
        raise click.UsageError("pass either --entity or --pattern, not both")
    (wanted,) = Scope((entity,) if entity else (), pattern).patterns
    with open_cache_server(stack) as server:
        found, has_more = list_matching(server.redis, server.namespace, wanted, limit)
    rows = [{"key": each.key, "ttlSeconds": each.ttl_seconds, "bytes": each.bytes} for each in found]
    lines = [
        f"{'-' if each.ttl_seconds is None else format(each.ttl_seconds, '.0f') + 's':>8}{each.bytes:>8}  {each.key}"
        for each in found
    ]
    if has_more:
        _say(f"only the first {limit} keys are shown; raise --limit to see more")
    _show({"keys": rows, "hasMore": has_more}, lines, as_json)


@cache.command()
@click.option("--limit", default=1000, show_default=True, type=_many, help="Records of each kind, at most")
@click.option("--rate", default=1000, show_default=True, type=_many, help="Records per second, at most")
@_stack
@_json
def warm(limit: int, rate: int, stack: str, as_json: bool) -> None:
    """Cache the hottest users, repositories and organizations

    Entries that are cached already are kept.
    """
    done = _warming(stack, limit, rate)()
    _show({"warmed": done}, [_warmed(done)], as_json)


def _warming(stack: str, limit: int, rate: int) -> Callable[[], dict[str, int]]:
    """Choose the servers, and return a function that warms the cache."""
    from ops.cache.warming import choose_servers, warm_from_here

    servers = choose_servers(stack, is_stack_given=is_stack_given())
    return lambda: warm_from_here(
        *servers, limit, rate, lambda kind, n, total: _say(f"{kind}: {n} of {total}")
    )


def _warmed(done: dict[str, int]) -> str:
    return "cached: " + ", ".join(f"{n} {kind}" for kind, n in done.items())


def _show(found: dict[str, Any], lines: Iterable[str], as_json: bool) -> None:
    print_json(found) if as_json else print_lines(lines)


def _say(line: str) -> None:
    print_line(line, err=True)
