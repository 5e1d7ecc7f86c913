"""The majorities that a failover needs: of etcd's members for Postgres, and of the Sentinels for Redis."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from infra.docker.engine import DockerError
from infra.docker.redis_members import RedisMember, redis_members
from infra.spec import etcd
from infra.spec.redis_acl import MONITOR
from infra.spec.redis_replication import GROUP, SENTINEL_NAMES, SERVER_NAMES
from ops.doctor.check_result import STACK_OPTION, CheckResult, fail, ok, skipped, warn
from ops.doctor.examination import Examination
from ops.servers.errors import one_line
from ops.stack.cluster import store_problems


def store_majority(examination: Examination) -> CheckResult:
    """etcd: check that a majority of its members answers. Each answers only if it reaches a majority."""
    containers = examination.stack.containers
    stores = {store: containers[store] for store in etcd.MEMBERS if store in containers}
    if not stores:
        return skipped("the stack has no replicas of Postgres in Docker")
    failed = store_problems(stores)
    text = f"{len(stores) - len(failed)} of {len(stores)} members answer"
    return _judged(text, failed, len(stores), "no replica of Postgres can be promoted")


def sentinel_majority(examination: Examination) -> CheckResult:
    """sentinels: check that a majority answers, and that all of them name the same primary."""
    first = examination.stack.containers.get(SERVER_NAMES[0])
    members = redis_members(first) if first else {}
    if not members:
        return skipped("the stack has no replicas of Redis in Docker")
    with ThreadPoolExecutor(max_workers=len(SENTINEL_NAMES)) as pool:
        found = dict(zip(SENTINEL_NAMES, pool.map(_asked, map(members.get, SENTINEL_NAMES)), strict=True))
    failed = [f"{name}: {problem}" for name, (_, problem) in found.items() if problem]
    named = {name: primary for name, (primary, problem) in found.items() if not problem}
    text = f"{len(named)} of {len(found)} Sentinels answer and reach a majority"
    if len(set(named.values())) > 1:
        lines = [f"{name} names {primary}" for name, primary in named.items()]
        return warn(f"{text}, but they name different primaries", _advice("sentinel-1"), [*failed, *lines])
    return _judged(text, failed, len(found), "no replica of Redis can be promoted")


def _judged(text: str, failed: Sequence[str], members: int, consequence: str) -> CheckResult:
    if not failed:
        return ok(text)
    service = failed[0].partition(":")[0]
    if members - len(failed) > members // 2:
        return warn(f"{text}; one more failure, and {consequence}", _advice(service), failed)
    return fail(f"{text}: {consequence}", _advice(service), failed)


def _advice(service: str) -> str:
    return (
        f"`groundwork up{STACK_OPTION}` starts a stopped or frozen container; otherwise see"
        f" `groundwork logs{STACK_OPTION} --service {service}`"
    )


def _asked(sentinel: RedisMember | None) -> tuple[str, str]:
    """Return the address of the primary that a Sentinel names, and what is wrong with the Sentinel."""
    if sentinel is None or not sentinel.is_running:
        return "", "missing" if sentinel is None else sentinel.state
    try:
        quorum = sentinel.ask(MONITOR, f"SENTINEL CKQUORUM {GROUP}")
        words = sentinel.ask(MONITOR, f"SENTINEL MASTER {GROUP}").splitlines()
    except DockerError as error:
        return "", one_line(error)
    # Names and values in turn.
    fields = dict(zip(words[::2], words[1::2], strict=False))
    return f"{fields.get('ip')}:{fields.get('port')}", "" if quorum.startswith("OK ") else one_line(quorum)
