"""How Redis is: reached, its clients, hits, memory, evictions and fragmentation."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, Status, judged, level, ok, warn

_MB = 1024**2


def reached(examination: Examination) -> Finding:
    """redis: whether it answers users monitor and ops at all."""
    # The first answer pays for the connection.
    version = examination.redis.info("server")["redis_version"]
    began = perf_counter()
    examination.redis.info("server")
    took = (perf_counter() - began) * 1000
    examination.redis.config()
    return ok(f"{examination.redis.name} is version {version} and answers in {took:.1f} ms")


def clients(examination: Examination) -> Finding:
    """redis-connections: used of maxclients, by user."""
    limits = examination.thresholds
    info = examination.redis.info("clients")
    used, most = int(info["connected_clients"]), int(info["maxclients"])
    by_user = Counter(client.get("user", "?") for client in examination.redis.clients())
    text = f"{used} of {most} in use"
    status = level(used / most, limits.connections_warn, limits.connections_fail)
    return judged(
        status,
        text if status is Status.OK else f"nearly out: {text}",
        "close what leaks connections (`groundwork redis-cli CLIENT LIST`), or raise redisMaxclients",
        [f"{user}: {count}" for user, count in sorted(by_user.items())],
    )


def hit_rate(examination: Examination) -> Finding:
    """redis-hit-rate: lookups of keys that found one, since the server started."""
    limits = examination.thresholds
    info = examination.redis.info("stats")
    hits = int(info["keyspace_hits"])
    lookups = hits + int(info["keyspace_misses"])
    if lookups < limits.redis_lookups_judged:
        return ok(f"only {lookups} lookups; judged from {limits.redis_lookups_judged} on")
    text = f"{hits / lookups:.1%} of {lookups} lookups found a key"
    if hits / lookups >= limits.redis_hit_rate_warn:
        return ok(text)
    return warn(
        text,
        "see `groundwork report` for which records miss; after a start `groundwork cache warm`; with evictions,"
        " raise redisMaxmemory",
    )


def memory(examination: Examination) -> Finding:
    """redis-memory: used of maxmemory, which only an evicting server may fill."""
    limits = examination.thresholds
    info = examination.redis.info("memory")
    used, most, policy = int(info["used_memory"]), int(info["maxmemory"]), info["maxmemory_policy"]
    text = f"{used / _MB:.0f} of {most / _MB:.0f} MB in use, policy {policy}"
    if most == 0:
        return warn(
            f"{used / _MB:.0f} MB in use and no maxmemory",
            "set it: the container's limit ends a server that has none; `groundwork up` does",
        )
    if policy != "noeviction":
        return ok(text)
    return judged(
        level(used / most, limits.memory_share_warn, limits.memory_share_fail),
        text,
        "writes are refused once it is full: raise redisMaxmemory, or let it evict (redisEvictionPolicy)",
    )


def evictions(examination: Examination) -> Finding:
    """evictions: keys that had to go before their time, a second, since the server started."""
    limits = examination.thresholds
    info = examination.redis.info("stats", "server")
    evicted, seconds = int(info["evicted_keys"]), max(int(info["uptime_in_seconds"]), 1)
    if evicted == 0:
        return ok("none since the server started")
    text = f"{evicted} keys since the server started, {evicted / seconds:.2g} a second"
    if evicted / seconds < limits.evictions_per_second_warn:
        return ok(text)
    return warn(
        text,
        "the cache is too small for what is asked of it: raise redisMaxmemory (and redisMemory)",
    )


def fragmentation(examination: Examination) -> Finding:
    """fragmentation: memory the server holds and does not use."""
    limits = examination.thresholds
    info = examination.redis.info("memory")
    ratio, wasted = float(info["mem_fragmentation_ratio"]), int(info["mem_fragmentation_bytes"])
    # Small next to what the server may have, it is the server's own, whatever the ratio says.
    matters = limits.fragmentation_share_of_maxmemory * (int(info["maxmemory"]) or 400 * _MB)
    text = f"ratio {ratio:.2f}, {max(wasted, 0) / _MB:.0f} MB held and not used"
    if ratio < limits.fragmentation_ratio_warn or wasted < matters:
        return ok(text)
    return warn(
        text,
        "restart Redis when it is quiet, and warm it (`groundwork cache warm`); nothing but speed is lost",
    )
