"""The near cache: entries in this process. No other caller can change the record that a hit returns (cache.near_codec).

It answers only while it is known to be current. Several times a second, cache.tracking calls `confirm` with the time up
to which all invalidations have been received. FRESH_SECONDS after that time every read is a miss.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from cache.codec import Codec
from cache.entry import packed_in
from cache.forking import Exclusion, register
from cache.keys import RECORD_ID
from cache.metrics import HITS, MISSES
from cache.near_codec import NearCodec, NearValue

T = TypeVar("T")

_KEY = re.compile(rf"([^{{]*)\{{({RECORD_ID})\}}")
# The promised limit for a stale read is 250 ms. The rest is for a call that has just checked the clock.
FRESH_SECONDS = 0.24
# Python's overhead for an entry, besides the value: measured, 250 to 350 bytes.
_ENTRY_BYTES = 300


class Miss(Enum):
    """The type of `MISS`, the result for a record that is not cached here. None is a known absence."""

    MISS = 0


MISS: Final = Miss.MISS
_Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stored value, the function that returns a caller's record, the size in bytes, and the expiry (monotonic)."""

    value: Any
    give: Callable[[Any], Any]
    size: int
    expires_at: float


class NearCache:
    """All entries of one process, limited in number and bytes. Evicts the least recently used entry."""

    def __init__(self, max_entries: int, max_bytes: int, ttl_seconds: float) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._exclusively = Exclusion()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        # A ticket for each key being read from Redis. An invalidation removes it, so that the read is not stored.
        self._reads: dict[_Key, object] = {}
        self._bytes = 0
        self._is_enabled = False
        # Until this time (monotonic) entries may be served.
        self.fresh_until = 0.0
        self._views: dict[str, NearView[Any]] = {}
        register(self)

    def view(self, key_prefix: str, entity: str, codec: Codec[T]) -> NearView[T]:
        """Return the view of one kind of record, whose keys are `key_prefix` + "{id}"."""
        view = NearView(self, self._entries, key_prefix, entity, codec)
        self._views[key_prefix] = view
        return view

    def after_fork(self) -> None:
        """Empty the cache: the parent's invalidations do not reach a child."""
        self.fresh_until = 0.0
        self._is_enabled = False
        self._clear()

    def enable(self) -> None:
        """Enable the cache: from now on every invalidation is received, so that new reads may be stored."""
        self._exclusively(self._enable)

    def _enable(self) -> None:
        # Redis may have answered current reads before invalidations were received.
        self._reads.clear()
        self._is_enabled = True

    def confirm(self, heard_until: float) -> None:
        """Confirm that all invalidations up to this time (monotonic) have been received."""
        self.fresh_until = heard_until + FRESH_SECONDS

    def disable(self) -> None:
        """Disable and clear the cache, because invalidations may be missed from now on."""
        self.fresh_until = 0.0
        self._exclusively(self.after_fork)

    def invalidate_all(self) -> None:
        """Remove all entries, as after FLUSHDB, and do not store current reads."""
        self._exclusively(self._clear)

    def invalidate_keys(self, keys: Iterable[bytes]) -> None:
        """Invalidate the entries of these Redis keys. Keys that belong to no view are ignored."""
        for key in keys:
            found = _KEY.fullmatch(key.decode(errors="replace"))
            if found is not None and found[1] in self._views:
                self.invalidate(found[1], [int(found[2])])

    def invalidate(self, prefix: str, record_ids: Iterable[int]) -> None:
        self._exclusively(self._invalidate, prefix, record_ids)

    def _invalidate(self, prefix: str, record_ids: Iterable[int]) -> None:
        for record_id in record_ids:
            key = (prefix, record_id)
            self._reads.pop(key, None)
            self._remove(key)

    def size(self) -> tuple[int, int]:
        """Return the number of entries and their size in bytes."""
        return len(self._entries), self._bytes

    def report(self) -> None:
        """Update the metrics. They are not updated on each hit, because that would take longer than the hit."""
        for view in self._views.values():
            view.report()

    def begin_read(self, key: _Key, ticket: object) -> object:
        """Start a read of Redis and return its ticket: this one, or that of another read in progress.

        `put` stores the value only if the ticket still exists.
        """
        return self._reads.setdefault(key, ticket)

    def put(self, key: _Key, stored: NearValue[Any], ticket: object) -> None:
        """Store a value, unless it was invalidated since `begin_read` or the cache is disabled."""
        self._exclusively(self._put, key, stored, ticket)

    def _put(self, key: _Key, stored: NearValue[Any], ticket: object) -> None:
        if self._reads.get(key) is not ticket:
            return
        self._reads.pop(key, None)
        size = _ENTRY_BYTES + stored.size
        if not self._is_enabled or size > self._max_bytes:
            return
        self._remove(key)
        # In this order, so that an interrupt makes the cache smaller and never larger than its limit.
        self._bytes += size
        self._entries[key] = _Entry(stored.value, stored.give, size, monotonic() + self._ttl_seconds)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            if not self._entries:
                self._bytes = 0
                return
            # A single operation, because hits reorder the entries without the lock.
            _, evicted = self._entries.popitem(last=False)
            self._bytes -= evicted.size

    def end_read(self, key: _Key, ticket: object) -> None:
        """End a read that stored nothing. Idempotent."""
        # Without the lock: if another read registers in between, its value is not stored.
        if self._reads.get(key) is ticket:
            self._reads.pop(key, None)

    def _remove(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size

    def _clear(self) -> None:
        self._entries.clear()
        self._reads.clear()
        self._bytes = 0


class NearView(Generic[T]):
    """The entries of one kind of record, by id."""

    def __init__(
        self, near: NearCache, entries: OrderedDict[_Key, _Entry], prefix: str, entity: str, codec: Codec[T]
    ) -> None:
        self._near = near
        self._prefix = prefix
        # Bound once: a hit takes about 1 µs, and looking these up would be a large part of it.
        self._entry = entries.get
        self._move_to_end = entries.move_to_end
        self._encode = NearCodec(codec).encode
        # Concurrent threads may lose a count. A lock would cost more than the hit.
        self._hits = self._misses = 0
        self._hit_counter = HITS.labels(entity, "near", "value")
        self._miss_counter = MISSES.labels(entity, "near")

    def peek(self, record_id: int) -> T | Miss | None:
        """Return the record, None for a known absence, or MISS. Any id that is not an int, such as True, is a MISS.

        Needs no lock, because each step is one atomic operation of the dictionary.
        """
        if type(record_id) is int:
            key = (self._prefix, record_id)
            entry = self._entry(key)
            if entry is not None and entry.expires_at >= monotonic() <= self._near.fresh_until:
                try:
                    self._move_to_end(key)
                except KeyError:
                    # Invalidated in the meantime. This read came first, so its result is valid.
                    pass
                self._hits += 1
                return entry.give(entry.value)  # type: ignore[no-any-return]
        self._misses += 1
        return MISS

    def begin_read(self, record_id: int, ticket: object) -> object:
        return self._near.begin_read((self._prefix, record_id), ticket)

    def put(self, record_id: int, raw: bytes, ticket: object) -> None:
        """Store an entry. It must have been decoded once, because hits rely on that."""
        self._near.put((self._prefix, record_id), self._encode(packed_in(raw)), ticket)

    def end_reads(self, record_ids: Iterable[int], ticket: object) -> None:
        for record_id in record_ids:
            self._near.end_read((self._prefix, record_id), ticket)

    def invalidate(self, record_ids: Iterable[int]) -> None:
        self._near.invalidate(self._prefix, record_ids)

    def report(self) -> None:
        hits, self._hits = self._hits, 0
        misses, self._misses = self._misses, 0
        self._hit_counter.inc(hits)
        self._miss_counter.inc(misses)
