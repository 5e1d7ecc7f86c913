"""What stands in Redis, seen from outside: by SCAN in bounded steps, never by KEYS, and without changing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from cache.entry import read_header
from cache.epoch import Told
from cache.errors import UndecodableEntry
from cache.flushing import SCAN_COUNT, key_patterns, scan
from cache.keys import LEASE_PREFIX, VALUE_PREFIX, StoredKey, epoch_nonce

_BATCH = 200


@dataclass(frozen=True)
class Measured:
    """A key, what it takes of Redis's memory in bytes, and its life in seconds (None: it is gone, or has no end)."""

    key: str
    bytes: int
    ttl_seconds: float | None

    @property
    def shown(self) -> str:
        """The key, with nothing in it that a terminal would obey."""
        return self.key if self.key.isprintable() else ascii(self.key)


@dataclass
class EntityTally:
    """What a sample says of one entity."""

    keys: int = 0
    bytes: int = 0
    of_past_epochs: int = 0
    schemas: set[int] = field(default_factory=set)
    ttls: list[float] = field(default_factory=list)

    def median_ttl(self) -> float | None:
        return median(self.ttls) if self.ttls else None


@dataclass(frozen=True)
class Survey:
    """A sample of one namespace: of `seen` keys out of the server's `total`. Values, by entity, and leases."""

    seen: int
    total: int
    leases: int
    entities: dict[str, EntityTally]

    @property
    def share(self) -> float:
        """Which part of the keys was seen; 1 where it was all of them."""
        return min(1.0, self.seen / self.total) if self.total else 1.0


@dataclass(frozen=True)
class Count:
    """Values that a pattern finds, by entity; `bytes` are extrapolated from the first ones' where `is_estimate`."""

    keys: int
    bytes: int
    is_estimate: bool
    entities: dict[str, int]
    sample: list[Measured]


def told_by(server: Any, namespace: str) -> Told | None:
    """What the server's epoch hangs on; None where no process has drawn a nonce yet."""
    nonce = server.get(epoch_nonce(namespace))
    if nonce is None:
        return None
    run_id, replication = server.info("server")["run_id"], server.info("replication")["master_replid"]
    return Told(run_id.encode(), replication.encode(), nonce)


def survey(server: Any, namespace: str, limit: int) -> Survey:
    """Look at about `limit` keys of the server: SCAN gives them in no order, so that the first are a fair sample."""
    told = told_by(server, namespace)
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
        _tally(server, [each for each in ours if each[1].layer == VALUE_PREFIX], told, entities)
        if cursor == 0:
            return Survey(seen, seen, leases, entities)
        if seen >= limit:
            return Survey(seen, max(seen, server.dbsize()), leases, entities)


def count_matching(
    server: Any, namespace: str, patterns: Sequence[str], sample: int, shown: int, progress: Any
) -> Count:
    """How many values `patterns` find, of which entities, and their bytes by MEMORY USAGE of the first `sample`."""
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


def list_matching(server: Any, namespace: str, pattern: str, limit: int) -> tuple[list[Measured], bool]:
    """The first `limit` values that a pattern finds, and whether there are more."""
    found = (key for keys in scan(server, key_patterns(namespace, pattern, VALUE_PREFIX)) for key in keys)
    # SCAN may give a key twice.
    keys = list(islice(dict.fromkeys(islice(found, 2 * limit + 2)), limit + 1))
    return list(measure(server, keys[:limit])), len(keys) > limit


def measure(server: Any, keys: Sequence[str]) -> Iterator[Measured]:
    """Bytes and life of keys; one that went meanwhile is left out."""
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        pipeline = server.pipeline(transaction=False)
        for key in batch:
            pipeline.memory_usage(key)
            pipeline.pttl(key)
        answers = pipeline.execute()
        for key, size, ttl in zip(batch, answers[::2], answers[1::2], strict=True):
            if size is not None:
                yield Measured(key, size, ttl / 1000 if ttl >= 0 else None)


def _tally(
    server: Any,
    values: Sequence[tuple[bytes, StoredKey]],
    told: Told | None,
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
            tally.of_past_epochs += not is_current(raw, parsed.entity, told)
            if ttl >= 0:
                tally.ttls.append(ttl / 1000)


def is_current(raw: bytes, entity: str, told: Told | None) -> bool:
    """Whether readers take these bytes: their stamp is the epoch's tag, or a generation of it."""
    try:
        stamp = read_header(raw).stamp
    except UndecodableEntry:
        return False
    return told is not None and stamp.partition(b".")[0] == told.tag_of(entity)
