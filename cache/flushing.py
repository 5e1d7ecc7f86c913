"""Flush the cache for all processes: a namespace or an entity in one step, or the keys of a pattern one by one.

Each function returns when no reader can serve what was cached before: neither from Redis, nor from a near cache, nor
from a read of the database that had started before. It may be interrupted at any point and called again.
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

# The number of keys that one SCAN step examines. It blocks Redis for less than 1 ms.
SCAN_COUNT = 1000
Progress = Callable[[str], None]


def invalidate_namespace(server: Any, *namespaces: str) -> None:
    """Flush namespaces of any size, each in one step, by replacing its nonce. Takes 1.5 s for any number of them."""
    for namespace in namespaces:
        try:
            server.set(epoch_nonce(namespace), secrets.token_hex(8))
        except OutOfMemoryError:
            # The next process that asks for the nonce creates it, if there is memory again.
            server.unlink(epoch_nonce(namespace))
    time.sleep(RELIANCE_SECONDS)


def invalidate_entities(server: Any, namespace: str, entities: Sequence[str]) -> bool:
    """Flush these entities by replacing their nonces.

    Return False if Redis had no memory left for that; then the whole namespace was flushed.
    """
    for entity in entities:
        arguments = (epoch_nonce(namespace), entity, secrets.token_hex(8), secrets.token_hex(8))
        try:
            try:
                server.evalsha(DRAW_ENTITY_NONCE.sha, 1, *arguments)
            except NoScriptError:
                server.script_load(DRAW_ENTITY_NONCE.source)
                server.evalsha(DRAW_ENTITY_NONCE.sha, 1, *arguments)
        except OutOfMemoryError:
            invalidate_namespace(server, namespace)
            return False
    time.sleep(RELIANCE_SECONDS)
    return True


def invalidate_matching(server: Any, namespace: str, pattern: str, rate: float, progress: Progress) -> int:
    """Delete the keys that `key_patterns` finds, at most `rate` per second, and return the number of values.

    Leases are deleted before values. A concurrent fill is then either refused, or its value exists before the second
    pass, which finds it: SCAN returns every key that exists throughout. With a page of a feed, the feed's generation is
    deleted.
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
    """Free the memory after a flush in one step, and return the number of values deleted.

    Values that were stored after the flush are deleted too.
    """
    patterns = [f"v*:{entity}:{{*" for entity in entities] or ["*"]
    return sum(invalidate_matching(server, namespace, pattern, rate, progress) for pattern in patterns)


def key_patterns(namespace: str, pattern: str, layer: str) -> list[str]:
    """Return the patterns for SCAN for `pattern`, a glob over `vSCHEMA:ENTITY:{ID}`.

    A feed's pattern includes its pages. Raises CacheSettingError if the pattern cannot match anything, or is of another
    namespace.
    """
    for prefix in (f"{VALUE_PREFIX}:{namespace}:", f"{LEASE_PREFIX}:{namespace}:"):
        pattern = pattern.removeprefix(prefix)
    if pattern.startswith((f"{VALUE_PREFIX}:", f"{LEASE_PREFIX}:")):
        raise CacheSettingError(f"the pattern {pattern!r} is not of namespace {namespace!r}")
    if not pattern.endswith(("}", "*")) or "}:" in pattern.rstrip("*"):
        raise CacheSettingError(
            f"the pattern {pattern!r} matches no key; keys look like v1:user:{{7}}, so end it with }} or *,"
            " and name a feed and not its pages"
        )
    found = [f"{layer}:{namespace}:{pattern}"]
    return found if pattern.endswith("*") else [*found, f"{found[0]}:*"]


def scan(server: Any, patterns: Sequence[str]) -> Iterator[list[str]]:
    """Yield the keys found by each step of SCAN. A key may occur twice."""
    for pattern in patterns:
        cursor = 0
        while True:
            cursor, keys = server.scan(cursor, match=pattern, count=SCAN_COUNT)
            if keys:
                yield [key.decode(errors="replace") for key in keys]
            if cursor == 0:
                break


class _Pace:
    """A rate limiter: sleeps so that at most `rate` keys per second are processed."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = time.monotonic()

    def keep(self, done: int) -> None:
        """Sleep for as long as `done` keys take at the rate. Time spent without keys does not count as a reserve."""
        now = time.monotonic()
        self._next = max(self._next, now) + done / self._rate
        time.sleep(self._next - now)
