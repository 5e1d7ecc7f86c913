"""An operator's flush of the cache: the preview, the consent it needs, and the invalidation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cache.epoch import RELIANCE_SECONDS
from cache.flushing import (
    invalidate_entities,
    invalidate_matching,
    invalidate_namespace,
    key_patterns,
    reclaim,
)
from cache.inspection import Count, count_matching
from cache.keys import VALUE_PREFIX
from ops.cache.server import CacheServer
from ops.consent import require_consent

_SAMPLE = 1000
_SHOWN = 10
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scope:
    """The entries to flush: everything in the namespace if neither entities nor a pattern are given."""

    entities: tuple[str, ...] = ()
    pattern: str | None = None

    @property
    def name(self) -> str:
        return "pattern" if self.pattern is not None else "entity" if self.entities else "all"

    @property
    def patterns(self) -> list[str]:
        if self.pattern is not None:
            return [self.pattern]
        return [f"v*:{entity}:{{*" for entity in self.entities] or ["*"]

    def __str__(self) -> str:
        if self.pattern is not None:
            return f"entries that match {self.pattern!r}"
        return f"every {' and '.join(self.entities)}" if self.entities else "everything"


@dataclass(frozen=True)
class Flushed:
    """The result of a flush. `keys` is the number of values deleted one by one, None after a single-step flush."""

    scope: str
    keys: int | None
    seconds: float


def preview(server: CacheServer, scope: Scope, say: Say) -> Count:
    """Count what a flush would invalidate. Changes nothing."""
    return count_matching(
        server.redis, server.namespace, scope.patterns, sample=_SAMPLE, shown=_SHOWN, progress=say
    )


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
    """Invalidate the scope, and return when no reader serves it any more. Raise OpsError (7) without consent."""
    if scope.pattern is not None:
        # Reject a pattern that cannot match anything before asking for consent.
        key_patterns(server.namespace, scope.pattern, VALUE_PREFIX)
    require_consent(
        f"invalidate {scope} cached in {server}", yes=yes, confirmed=confirmed, names=server.names
    )
    started = time.monotonic()
    redis, namespace = server.redis, server.namespace
    done, keys = scope.name, None
    if scope.pattern is not None:
        keys = invalidate_matching(redis, namespace, scope.pattern, rate, say)
        if server.has_replicas:
            # A reader may rely on the former primary for this time after a failover.
            time.sleep(RELIANCE_SECONDS)
    else:
        if not scope.entities:
            invalidate_namespace(redis, namespace)
        elif not invalidate_entities(redis, namespace, scope.entities):
            done = "all"
            say("Redis has no memory left to record the entities; everything is invalidated instead")
        say(f"{scope} is invalidated")
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
    lines = [f"would invalidate {scope} in {server}: {count.keys} keys, {about}{count.bytes} bytes"]
    lines += [f"  {entity:<16}{number:>10}" for entity, number in sorted(count.entities.items())]
    return lines + [f"  {each.key}" for each in count.sample]
