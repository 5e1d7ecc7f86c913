"""Redis's reachability, clients, hit rate, memory, evictions and fragmentation."""

from __future__ import annotations

from collections import Counter
from time import perf_counter
from typing import Any

from ops.doctor.check_result import (
    STACK_OPTION,
    CheckResult,
    CheckStatus,
    counted,
    fail,
    judged,
    level,
    ok,
    skipped,
    warn,
)
from ops.doctor.examination import Examination
from ops.errors import OpsError
from ops.servers.redis_primary import version_of
from ops.servers.replication import redis_replicas

_MB = 1024**2
_ADVICE = (
    f"`groundwork up{STACK_OPTION}` starts a stopped or frozen server; otherwise see"
    f" `groundwork cluster status{STACK_OPTION} --service redis` and `groundwork logs{STACK_OPTION}`"
)
_AWS_ADVICE = "ElastiCache replaces a node that has failed; see the events of the replication group"


def reached(examination: Examination) -> CheckResult:
    """redis: check that it answers users monitor and ops."""
    # The first query also opens the connection.
    version = version_of(examination.redis.info("server"))
    began = perf_counter()
    examination.redis.info("server")
    took = (perf_counter() - began) * 1000
    examination.redis.config()
    return ok(f"{examination.redis.name} is version {version} and answers in {took:.1f} ms")


def replicas(examination: Examination) -> CheckResult:
    """redis-replicas: check that one server is the primary, and that all others follow it."""
    stack = examination.stack
    expected = stack.redis_replicas
    if not expected:
        return skipped("the stack has one Redis server")
    found = examination.redis.replication()
    if len(found) == 1:
        return _behind_endpoint(*found.popitem(), expected)
    primaries, following, lines = [], 0, []
    for name, replication in found.items():
        if isinstance(replication, OpsError):
            lines.append(f"{name} does not answer: {replication}")
        elif replication["role"] == "master":
            good = int(replication["min_slaves_good_slaves"])
            lines.append(f"{name} is a primary, followed by {counted(good, 'replica')}")
            if good:
                primaries.append(name)
        else:
            is_up = replication["master_link_status"] == "up"
            following += is_up
            lines.append(f"{name} is a replica, {'up to date' if is_up else 'without its primary'}")
    if len(primaries) != 1:
        return fail(f"{len(primaries)} servers accept writes, and one should", _ADVICE, lines)
    return _following(primaries[0], following, expected, _ADVICE, lines)


def _behind_endpoint(address: str, replication: dict[str, Any] | OpsError, expected: int) -> CheckResult:
    """Check a primary on AWS. Its endpoint leads to it, and only it reports its replicas."""
    if isinstance(replication, OpsError):
        return fail(f"{address} does not answer: {replication}", _AWS_ADVICE)
    if replication["role"] != "master":
        return fail(f"{address} is a replica, and should be the primary", _AWS_ADVICE)
    connected = redis_replicas(replication)
    following = sum(each["state"] == "online" for each in connected)
    lines = [f"{each['name']} is {each['state']}, {each['lag_bytes']} bytes behind" for each in connected]
    return _following(address, following, expected, _AWS_ADVICE, lines)


def _following(primary: str, following: int, expected: int, advice: str, lines: list[str]) -> CheckResult:
    if following < expected:
        return warn(f"the primary is {primary}; {following} of {expected} replicas follow it", advice, lines)
    return ok(f"the primary is {primary}, followed by {counted(following, 'replica')}", lines)


def clients(examination: Examination) -> CheckResult:
    """redis-connections: compare the used connections with maxclients, by user."""
    limits = examination.thresholds
    info = examination.redis.info("clients")
    used, most = int(info["connected_clients"]), int(info["maxclients"])
    by_user = Counter(client.get("user", "?") for client in examination.redis.clients())
    text = f"{used} of {most} in use"
    status = level(used / most, limits.connections_warn, limits.connections_fail)
    return judged(
        status,
        text if status is CheckStatus.OK else f"nearly exhausted: {text}",
        f"close leaked connections (`groundwork redis-cli{STACK_OPTION} CLIENT LIST` shows them), or raise"
        " redisMaxclients",
        [f"{user}: {count}" for user, count in sorted(by_user.items())],
    )


def hit_rate(examination: Examination) -> CheckResult:
    """redis-hit-rate: check the share of lookups that found a key since the server started."""
    limits = examination.thresholds
    info = examination.redis.info("stats")
    hits = int(info["keyspace_hits"])
    lookups = hits + int(info["keyspace_misses"])
    if lookups < limits.redis_lookups_judged:
        return ok(f"only {lookups} lookups; checked after {limits.redis_lookups_judged}")
    text = f"{hits / lookups:.1%} of {lookups} lookups found a key"
    if hits / lookups >= limits.redis_hit_rate_warn:
        return ok(text)
    return warn(
        text,
        f"see which entities miss with `groundwork cache stats{STACK_OPTION}`; after a restart run"
        f" `groundwork cache warm{STACK_OPTION}`; with evictions, raise redisMaxmemory",
    )


def memory(examination: Examination) -> CheckResult:
    """redis-memory: compare used memory with maxmemory. Only a server that evicts keys may fill it."""
    limits = examination.thresholds
    info = examination.redis.info("memory")
    used, most, policy = int(info["used_memory"]), int(info["maxmemory"]), info["maxmemory_policy"]
    text = f"{used / _MB:.0f} of {most / _MB:.0f} MB in use, policy {policy}"
    if most == 0:
        return warn(
            f"{used / _MB:.0f} MB in use, and maxmemory is not set",
            f"run `groundwork up{STACK_OPTION}` to set it; without it the container's memory limit kills the server",
        )
    if policy != "noeviction":
        return ok(text)
    return judged(
        level(used / most, limits.memory_share_warn, limits.memory_share_fail),
        text,
        "Redis rejects writes when it is full: raise redisMaxmemory, or allow eviction (redisEvictionPolicy)",
    )


def evictions(examination: Examination) -> CheckResult:
    """evictions: check the rate of keys evicted since the server started."""
    limits = examination.thresholds
    info = examination.redis.info("stats", "server")
    evicted, seconds = int(info["evicted_keys"]), max(int(info["uptime_in_seconds"]), 1)
    if evicted == 0:
        return ok("none since the server started")
    text = f"{evicted} keys since the server started, {evicted / seconds:.2g} per second"
    if evicted / seconds < limits.evictions_per_second_warn:
        return ok(text)
    return warn(
        text,
        "the cache is too small for its load: raise redisMaxmemory (and redisMemory)",
    )


def fragmentation(examination: Examination) -> CheckResult:
    """fragmentation: check the memory that the server holds without using it."""
    limits = examination.thresholds
    info = examination.redis.info("memory")
    ratio, wasted = float(info["mem_fragmentation_ratio"]), int(info["mem_fragmentation_bytes"])
    # A small amount compared with maxmemory is normal even at a high ratio.
    matters = limits.fragmentation_share_of_maxmemory * (int(info["maxmemory"]) or 400 * _MB)
    text = f"ratio {ratio:.2f}, {max(wasted, 0) / _MB:.0f} MB held but not used"
    if ratio < limits.fragmentation_ratio_warn or wasted < matters:
        return ok(text)
    return warn(
        text,
        f"restart Redis at a quiet time, then run `groundwork cache warm{STACK_OPTION}`; only speed is lost",
    )
