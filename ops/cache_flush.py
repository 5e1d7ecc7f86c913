"""A flush as an operator asks for it: what it would forget, the consent it takes, and the warming after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cache.flushing import forget_all, forget_entities, forget_matching, key_patterns, reclaim
from cache.keys import VALUE_PREFIX
from cache.survey import Count, count_matching
from ops.cache_server import CacheServer
from ops.consent import require_consent

_SAMPLE = 1000
_SHOWN = 10
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scope:
    """Everything in the namespace, where neither entities nor a pattern are given."""

    entities: tuple[str, ...] = ()
    pattern: str | None = None

    @property
    def name(self) -> str:
        return "pattern" if self.pattern else "entity" if self.entities else "all"

    @property
    def patterns(self) -> list[str]:
        if self.pattern:
            return [self.pattern]
        return [f"v*:{entity}:{{*" for entity in self.entities] or ["*"]

    def __str__(self) -> str:
        if self.pattern:
            return f"what matches {self.pattern!r}"
        return f"every {' and '.join(self.entities)}" if self.entities else "everything"


@dataclass(frozen=True)
class Flushed:
    """`keys` are the values that were deleted one by one; None where it was done in one step."""

    scope: str
    keys: int | None
    seconds: float


def preview(server: CacheServer, scope: Scope, say: Say) -> Count:
    """What a flush would forget; changes nothing."""
    return count_matching(server.redis, server.namespace, scope.patterns, _SAMPLE, _SHOWN, say)


def flush(
    server: CacheServer,
    scope: Scope,
    *,
    rate: int,
    reclaims: bool,
    yes: bool,
    confirmed: str | None,
    say: Say,
) -> Flushed:
    """Forget it, and return when no reader serves it any more. OpsError (7) without consent."""
    if scope.pattern:
        # A pattern that can match nothing is said before anything is asked.
        key_patterns(server.namespace, scope.pattern, VALUE_PREFIX)
    require_consent(
        f"forget {scope} that is cached in {server}", yes=yes, confirmed=confirmed, names=server.names
    )
    started = time.monotonic()
    redis, namespace = server.redis, server.namespace
    done, keys = scope.name, None
    if scope.pattern:
        keys = forget_matching(redis, namespace, scope.pattern, rate, say)
    else:
        if not scope.entities:
            forget_all(redis, namespace)
        elif not forget_entities(redis, namespace, scope.entities):
            done = "all"
            say("Redis has no memory left to note which entities; everything is forgotten")
        say(f"{scope} is forgotten")
        if reclaims:
            keys = reclaim(redis, namespace, scope.entities, rate, say)
    return Flushed(done, keys, round(time.monotonic() - started, 2))


def count_as_json(count: Count) -> dict[str, Any]:
    return {
        "keys": count.keys,
        "bytes": count.bytes,
        "bytesAreEstimated": count.is_estimate,
        "entities": count.entities,
        "sample": [
            {"key": each.key, "bytes": each.bytes, "ttlSeconds": each.ttl_seconds} for each in count.sample
        ],
    }


def count_as_lines(count: Count, scope: Scope, server: CacheServer) -> Sequence[str]:
    about = "about " if count.is_estimate else ""
    lines = [f"would forget {scope} in {server}: {count.keys} keys, {about}{count.bytes} bytes"]
    lines += [f"  {entity:<16}{number:>10}" for entity, number in sorted(count.entities.items())]
    return lines + [f"  {each.shown}" for each in count.sample]
