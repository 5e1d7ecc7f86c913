"""Inspect what is cached in Redis, by SCAN in bounded steps and never by KEYS. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from cache.entry import read_header
from cache.epoch import ServerIdentity
from cache.errors import UndecodableEntry
from cache.flushing import SCAN_COUNT, key_patterns, scan
from cache.keys import LEASE_PREFIX, VALUE_PREFIX, StoredKey, epoch_nonce

_BATCH = 200


@dataclass(frozen=True)
class MeasuredKey:
    """A key, its memory in bytes, and its remaining lifetime in seconds (None if it has expired or has no expiry)."""

    key: str
    bytes: int
    ttl_seconds: float | None


@dataclass
class EntityTally:
    """The values of one entity in a sample."""

    keys: int = 0
    bytes: int = 0
    of_past_epochs: int = 0
    schemas: set[int] = field(default_factory=set)
    ttls: list[float] = field(default_factory=list)

    def median_ttl(self) -> float | None:
        return median(self.ttls) if self.ttls else None


@dataclass(frozen=True)
class Inspection:
    """A sample of one namespace, from `seen` of the server's `total` keys: values by entity, and leases."""

    seen: int
    total: int
    leases: int
    entities: dict[str, EntityTally]

    @property
    def share(self) -> float:
        """The share of the keys that was seen, 1 for all."""
        return min(1.0, self.seen / self.total) if self.total else 1.0


@dataclass(frozen=True)
class Count:
    """The values that patterns find. With `is_estimate`, `bytes` is extrapolated from the first values."""

    keys: int
    bytes: int
    is_estimate: bool
    entities: dict[str, int]
    sample: list[MeasuredKey]


def server_identity(server: Any, namespace: str) -> ServerIdentity | None:
    """Return what the server's epoch depends on, or None if there is no nonce yet."""
    nonce = server.get(epoch_nonce(namespace))
    if nonce is None:
        return None
    run_id, replication = server.info("server")["run_id"], server.info("replication")["master_replid"]
    return ServerIdentity(run_id.encode(), replication.encode(), nonce)


def inspect_namespace(server: Any, namespace: str, limit: int) -> Inspection:
    """Sample about `limit` keys of the server. SCAN returns them in no order, so the first ones are a fair sample."""
    identity = server_identity(server, namespace)
    seen = leases = cursor = 0
    entities: dict[str, EntityTally] = {}
    while True:
        cursor, keys = server.scan(cursor, count=min(SCAN_COUNT, limit - seen))
        seen += len(keys)
        stored = [(key, StoredKey.parse(key.decode(errors="replace"))) for key in keys]
        ours = [
            (key, parsed) for key, parsed in stored if parsed is not None and parsed.namespace == namespace
        ]
        leases += sum(1 for _, parsed in ours if parsed.layer == LEASE_PREFIX)
        _tally(server, [each for each in ours if each[1].layer == VALUE_PREFIX], identity, entities)
        if cursor == 0:
            return Inspection(seen, seen, leases, entities)
        if seen >= limit:
            return Inspection(seen, max(seen, server.dbsize()), leases, entities)


def count_matching(
    server: Any, namespace: str, patterns: Sequence[str], sample: int, shown: int, progress: Any
) -> Count:
    """Count the values that `patterns` find, by entity, and estimate their memory.

    The memory is that of the first `sample` values, extrapolated. The first `shown` of them are returned.
    """
    entities: dict[str, int] = {}
    total = 0
    first: list[str] = []
    for pattern in patterns:
        for found in scan(server, key_patterns(namespace, pattern, VALUE_PREFIX)):
            total += len(found)
            first += found[: sample - len(first)]
            for key in found:
                parsed = StoredKey.parse(key)
                name = parsed.entity if parsed else "other"
                entities[name] = entities.get(name, 0) + 1
            progress(f"counted {total}")
    measured = list(measure(server, first))
    size = sum(each.bytes for each in measured)
    if total > len(first):
        size = round(size * total / len(first))
    return Count(total, size, total > len(first), entities, measured[:shown])


def list_matching(server: Any, namespace: str, pattern: str, limit: int) -> tuple[list[MeasuredKey], bool]:
    """Return the first `limit` values that a pattern finds, and whether there are more."""
    found = (key for keys in scan(server, key_patterns(namespace, pattern, VALUE_PREFIX)) for key in keys)
    # SCAN may return a key twice.
    keys = list(islice(dict.fromkeys(islice(found, 2 * limit + 2)), limit + 1))
    return list(measure(server, keys[:limit])), len(keys) > limit


def measure(server: Any, keys: Sequence[str]) -> Iterator[MeasuredKey]:
    """Yield memory and remaining lifetime of keys. Keys that no longer exist are left out."""
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        pipeline = server.pipeline(transaction=False)
        for key in batch:
            pipeline.memory_usage(key)
            pipeline.pttl(key)
        answers = pipeline.execute()
        for key, size, ttl in zip(batch, answers[::2], answers[1::2], strict=True):
            if size is not None:
                yield MeasuredKey(key, size, ttl / 1000 if ttl >= 0 else None)


def _tally(
    server: Any,
    values: Sequence[tuple[bytes, StoredKey]],
    identity: ServerIdentity | None,
    entities: dict[str, EntityTally],
) -> None:
    for start in range(0, len(values), _BATCH):
        batch = values[start : start + _BATCH]
        pipeline = server.pipeline(transaction=False)
        for key, _ in batch:
            pipeline.memory_usage(key)
            pipeline.pttl(key)
            pipeline.get(key)
        answers = iter(pipeline.execute())
        for (_, parsed), size, ttl, raw in zip(batch, answers, answers, answers, strict=True):
            if size is None or raw is None:
                continue
            tally = entities.setdefault(parsed.entity, EntityTally())
            tally.keys += 1
            tally.bytes += size
            tally.schemas.add(parsed.schema)
            tally.of_past_epochs += not is_current(raw, parsed.entity, identity)
            if ttl >= 0:
                tally.ttls.append(ttl / 1000)


def is_current(raw: bytes, entity: str, identity: ServerIdentity | None) -> bool:
    """Return whether readers would use this entry: its stamp is of the current epoch."""
    try:
        stamp = read_header(raw).stamp
    except UndecodableEntry:
        return False
    return identity is not None and stamp.partition(b".")[0] == identity.tag_of(entity)
