"""Has what is cached forgotten for everybody: a namespace or an entity in one step, what a pattern names key by key.

Each function returns only when no reader serves what was cached before, whether from Redis, from a near cache, or
from a read of the database that had begun before. It may be ended anywhere, and called again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis.exceptions import NoScriptError, OutOfMemoryError

from cache.epoch import RELIANCE_SECONDS
from cache.errors import CacheSettingError
from cache.keys import LEASE_PREFIX, VALUE_PREFIX, StoredKey, epoch_nonce
from cache.near import FRESH_SECONDS
from cache.scripts import DRAW_ENTITY_NONCE

# How many keys a SCAN looks at in one step: Redis answers nobody else meanwhile, for less than a millisecond.
SCAN_COUNT = 1000
Progress = Callable[[str], None]


def forget_all(server: Any, namespace: str) -> None:
    """Draw the namespace's nonce anew: whatever its size, all its entries are of a past epoch then."""
    try:
        server.set(epoch_nonce(namespace), secrets.token_hex(8))
    except OutOfMemoryError:
        # Whoever asks next draws it, where there is room again.
        server.unlink(epoch_nonce(namespace))
    time.sleep(RELIANCE_SECONDS)


def forget_entities(server: Any, namespace: str, entities: Sequence[str]) -> bool:
    """Draw the nonces of these entities anew. False where Redis had no memory left to, and forgot all of them."""
    for entity in entities:
        arguments = (epoch_nonce(namespace), entity, secrets.token_hex(8), secrets.token_hex(8))
        try:
            try:
                server.evalsha(DRAW_ENTITY_NONCE.sha, 1, *arguments)
            except NoScriptError:
                server.script_load(DRAW_ENTITY_NONCE.source)
                server.evalsha(DRAW_ENTITY_NONCE.sha, 1, *arguments)
        except OutOfMemoryError:
            forget_all(server, namespace)
            return False
    time.sleep(RELIANCE_SECONDS)
    return True


def forget_matching(server: Any, namespace: str, pattern: str, rate: float, progress: Progress) -> int:
    """Delete what `key_patterns` finds, at most `rate` keys a second; how many values there were.

    Leases first, then values: a fill that was under way before is refused, or its value is there for the second
    pass, for SCAN misses no key that is there all the time. A page of a feed takes the feed's generation with it.
    """
    pace = _Pace(rate)
    deleted = {LEASE_PREFIX: 0, VALUE_PREFIX: 0}
    for layer, what in ((LEASE_PREFIX, "leases"), (VALUE_PREFIX, "values")):
        for found in scan(server, key_patterns(namespace, pattern, layer)):
            keys = set(found) - {epoch_nonce(namespace)}
            keys |= {parsed.generation() for key in found if (parsed := StoredKey.parse(key)) and parsed.page}
            if keys:
                server.unlink(*keys)
                deleted[layer] += len(found)
                progress(f"{what}: {deleted[layer]} deleted")
                pace.keep(len(keys))
    time.sleep(FRESH_SECONDS)
    return deleted[VALUE_PREFIX]


def reclaim(server: Any, namespace: str, entities: Sequence[str], rate: float, progress: Progress) -> int:
    """Free the memory of what was forgotten in one step; what was stored since goes too. How many values."""
    patterns = [f"v*:{entity}:{{*" for entity in entities] or ["*"]
    return sum(forget_matching(server, namespace, pattern, rate, progress) for pattern in patterns)


def key_patterns(namespace: str, pattern: str, layer: str) -> list[str]:
    """SCAN's patterns for `pattern`, a glob over `v{schema}:{entity}:{{id}}`; a feed's pages go with their feed.

    CacheSettingError where it can match nothing, or names another namespace.
    """
    for prefix in (f"{VALUE_PREFIX}:{namespace}:", f"{LEASE_PREFIX}:{namespace}:"):
        pattern = pattern.removeprefix(prefix)
    if pattern.startswith((f"{VALUE_PREFIX}:", f"{LEASE_PREFIX}:")):
        raise CacheSettingError(f"the pattern {pattern!r} is not of namespace {namespace!r}")
    if not pattern.endswith(("}", "*")) or "}:" in pattern.rstrip("*"):
        raise CacheSettingError(
            f"the pattern {pattern!r} matches no key; keys are v1:user:{{7}}, so end it with }} or *,"
            " and name a feed and not its pages"
        )
    found = [f"{layer}:{namespace}:{pattern}"]
    return found if pattern.endswith("*") else [*found, f"{found[0]}:*"]


def scan(server: Any, patterns: Sequence[str]) -> Iterator[list[str]]:
    """Keys by SCAN, a step's at a time; one may come twice."""
    for pattern in patterns:
        cursor = 0
        while True:
            cursor, keys = server.scan(cursor, match=pattern, count=SCAN_COUNT)
            if keys:
                yield [key.decode(errors="replace") for key in keys]
            if cursor == 0:
                break


class _Pace:
    """Waits so that no more than `rate` things are done in a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self._done = 0

    def keep(self, done: int) -> None:
        self._done += done
        time.sleep(max(0.0, self._started + self._done / self._rate - time.monotonic()))
