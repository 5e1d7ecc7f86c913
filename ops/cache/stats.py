"""Cache statistics: Redis's counters, a sample of the keys by entity, and the access service's counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cache.inspection import Inspection, inspect_namespace, server_identity
from ops.cache.server import CacheServer
from ops.servers.errors import ServerUnreachable
from ops.servers.redis_primary import version_of

_COUNTERS = {"groundwork_cache_hits_total": "hits", "groundwork_cache_misses_total": "misses"}


def stats(
    server: CacheServer, sample: int, metrics_url: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the statistics, sizes in bytes and times in seconds.

    `reads` is None without `metrics_url`, or if its metrics cannot be read. `say` gets the reason.
    """
    info = server.redis.info()
    hits, misses = info["keyspace_hits"], info["keyspace_misses"]
    identity = server_identity(server.redis, server.namespace)
    seen = inspect_namespace(server.redis, server.namespace, sample)
    return {
        "redis": server.address,
        "namespace": server.namespace,
        "epoch": None if identity is None else identity.tag_of("").decode(),
        "server": {
            "version": version_of(info),
            "uptimeSeconds": info["uptime_in_seconds"],
            "clients": info["connected_clients"],
            "hits": hits,
            "misses": misses,
            "hitRate": _rate(hits, misses),
            "keys": server.redis.dbsize(),
            "expired": info["expired_keys"],
            "evicted": info["evicted_keys"],
            "usedMemory": info["used_memory"],
            "maxMemory": info["maxmemory"],
            "evictionPolicy": info["maxmemory_policy"],
            "fragmentation": info["mem_fragmentation_ratio"],
        },
        "sample": {"keys": seen.seen, "share": round(seen.share, 4), "leases": seen.leases},
        "entities": _entities(seen),
        "reads": None if metrics_url is None else _reads(metrics_url, say),
    }


def _entities(seen: Inspection) -> dict[str, dict[str, Any]]:
    """Extrapolate the sample's numbers to all keys."""
    return {
        entity: {
            "keys": round(tally.keys / seen.share),
            "bytes": round(tally.bytes / seen.share),
            "meanBytes": round(tally.bytes / tally.keys),
            "medianTtlSeconds": tally.median_ttl(),
            "schemas": sorted(tally.schemas),
            "ofPastEpochs": round(tally.of_past_epochs / seen.share),
        }
        for entity, tally in sorted(seen.entities.items())
    }


def _reads(url: str, say: Callable[[str], None]) -> dict[str, dict[str, Any]] | None:
    """Return the hits and misses on a page of metrics by entity and layer, or None if it cannot be read."""
    from ops.servers.access_metrics import read_metrics

    if "@" in url.partition("://")[2].partition("/")[0]:
        # urllib quotes the password in its error.
        say("the URL contains a login, which is not supported; omit it")
        return None
    counts: dict[str, dict[str, Any]] = {}
    try:
        for (metric, labels), value in read_metrics(url).items():
            if metric in _COUNTERS:
                by_name = dict(labels)
                name = f"{by_name['entity']}/{by_name['layer']}"
                row = counts.setdefault(name, {"hits": 0, "misses": 0})
                row[_COUNTERS[metric]] += int(value)
    except ServerUnreachable as error:
        say(str(error))
        return None
    except (ValueError, LookupError, OverflowError) as error:
        say(f"{url} has unexpected counters of reads: {error!r}")
        return None
    return {
        name: row | {"hitRate": _rate(row["hits"], row["misses"])} for name, row in sorted(counts.items())
    }


def _rate(hits: int, misses: int) -> float | None:
    return round(hits / (hits + misses), 4) if hits + misses else None


def as_lines(found: dict[str, Any]) -> list[str]:
    """Render the statistics as text."""
    server, sample = found["server"], found["sample"]
    share = "" if server["maxMemory"] == 0 else f" of {server['maxMemory'] / 1024**2:.1f}"
    lines = [
        f"Redis {server['version']} at {found['redis']}, up {server['uptimeSeconds']} s,"
        f" {server['clients']} clients",
        f"hit rate     {_percent(server['hitRate'])}  ({server['hits']} hits, {server['misses']} misses"
        " since server start)",
        f"memory       {server['usedMemory'] / 1024**2:.1f}{share} MB, {server['evictionPolicy']},"
        f" fragmentation {server['fragmentation']}",
        f"keys         {server['keys']}, {server['evicted']} evicted, {server['expired']} expired",
        f"namespace    {found['namespace']}, epoch {found['epoch'] or 'not set'}",
        f"sample       {sample['keys']} keys ({sample['share']:.0%}), {sample['leases']} leases",
    ]
    if found["entities"]:
        lines.append(f"{'entity':<18}{'keys':>9}{'bytes':>12}{'mean':>7}{'ttl':>8}  schemas")
    for entity, row in found["entities"].items():
        about = "" if sample["share"] == 1 else "~"
        ttl = "-" if row["medianTtlSeconds"] is None else f"{row['medianTtlSeconds']:.0f}s"
        past = f", {row['ofPastEpochs']} from earlier epochs" if row["ofPastEpochs"] else ""
        schemas = ", ".join(f"v{schema}" for schema in row["schemas"])
        lines.append(
            f"{entity:<18}{about + str(row['keys']):>9}{about + str(row['bytes']):>12}{row['meanBytes']:>7}{ttl:>8}"
            f"  {schemas}{past}"
        )
    return lines + _read_lines(found["reads"])


def _read_lines(reads: dict[str, dict[str, Any]] | None) -> list[str]:
    if reads is None:
        return ["access service: not queried, or it did not answer"]
    asked = {name: row for name, row in reads.items() if row["hits"] + row["misses"]}
    return [
        f"access service, {name:<22}{_percent(row['hitRate'])}  ({row['hits']} hits, {row['misses']} misses)"
        for name, row in asked.items()
    ] or ["access service: no reads yet"]


def _percent(rate: float | None) -> str:
    return "    -" if rate is None else f"{rate:5.1%}"
