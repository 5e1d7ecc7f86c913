"""The near cache: entries in this process, given out so that no caller can spoil another's (cache.keeping).

It answers only while it is known to be current: `confirm` is told, several times a second, up to when every
invalidation has been heard (cache.tracking), and FRESH_SECONDS later it goes silent by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from cache.codec import Codec
from cache.entry import packed_in
from cache.keeping import Keeping, Kept
from cache.metrics import HITS, MISSES

T = TypeVar("T")

# The promise is 250 ms; the rest is for the call that has just looked at the clock.
FRESH_SECONDS = 0.24
# Beside what is kept, what Python needs for an entry: measured, 250 to 350 bytes.
_ENTRY_BYTES = 300


class Miss(Enum):
    """`MISS`: not known here. None would be a known absence."""

    MISS = 0


MISS: Final = Miss.MISS
_Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is kept, and how a caller's own is made of it; what it counts for in bytes; when it goes (monotonic)."""

    value: Any
    give: Callable[[Any], Any]
    size: int
    expires_at: float


class NearCache:
    """All entries of one process, least recently used first, bounded in number and bytes."""

    def __init__(self, max_entries: int, max_bytes: int, ttl_seconds: float) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._lock = Lock()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        # Reads of Redis that are under way, each with its place; an invalidation takes the place away.
        self._places: dict[_Key, object] = {}
        self._bytes = 0
        self._is_standing = False
        # Monotonic: until then what is here may be served.
        self.fresh_until = 0.0
        self._views: dict[str, NearView[Any]] = {}

    def view(self, key_prefix: str, entity: str, codec: Codec[T]) -> NearView[T]:
        """One kind of record, whose keys are `key_prefix` + "{id}"."""
        view = NearView(self, self._entries, key_prefix, entity, codec)
        self._views[key_prefix] = view
        return view

    def stand(self) -> None:
        """From now on every invalidation is heard: what is read after this may be taken in."""
        with self._lock:
            # Reads under way may have been answered before.
            self._places.clear()
            self._is_standing = True

    def confirm(self, heard_until: float) -> None:
        """Every invalidation until this time (monotonic) has been heard."""
        self.fresh_until = heard_until + FRESH_SECONDS

    def fall(self) -> None:
        """Invalidations may be missed from now on: everything goes, and nothing is taken in."""
        self.fresh_until = 0.0
        with self._lock:
            self._is_standing = False
            self._clear()

    def invalidate_all(self) -> None:
        """Forget everything, as after FLUSHDB, and what is under way."""
        with self._lock:
            self._clear()

    def invalidate_keys(self, keys: Iterable[bytes]) -> None:
        """Forget what these keys of Redis hold; those of no view are nobody's here."""
        for key in keys:
            prefix, _, rest = key.decode(errors="replace").partition("{")
            if prefix in self._views and rest.endswith("}") and rest[:-1].lstrip("-").isdigit():
                self.invalidate(prefix, [int(rest[:-1])])

    def invalidate(self, prefix: str, record_ids: Iterable[int]) -> None:
        with self._lock:
            for record_id in record_ids:
                key = (prefix, record_id)
                self._places.pop(key, None)
                self._remove(key)

    def size(self) -> tuple[int, int]:
        """How many entries there are, and the bytes that they take."""
        return len(self._entries), self._bytes

    def report(self) -> None:
        """Bring the metrics up to date: counting each hit there would take longer than the hit."""
        for view in self._views.values():
            view.report()

    def take_place(self, key: _Key) -> object:
        """Before Redis is read: what is then read may be put in only while this place is kept."""
        with self._lock:
            return self._places.setdefault(key, object())

    def put(self, key: _Key, kept: Kept[Any], place: object) -> None:
        """Take in what was read, unless it was invalidated meanwhile, or invalidations are not heard."""
        size = _ENTRY_BYTES + kept.size
        with self._lock:
            if self._places.get(key) is not place:
                return
            del self._places[key]
            if not self._is_standing or size > self._max_bytes:
                return
            self._remove(key)
            self._entries[key] = _Entry(kept.value, kept.give, size, monotonic() + self._ttl_seconds)
            self._bytes += size
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                # One operation: hits reorder the entries meanwhile, without the lock.
                _, evicted = self._entries.popitem(last=False)
                self._bytes -= evicted.size

    def leave_place(self, key: _Key, place: object) -> None:
        """Nothing was read after all."""
        with self._lock:
            if self._places.get(key) is place:
                del self._places[key]

    def _remove(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size

    def _clear(self) -> None:
        self._entries.clear()
        self._places.clear()
        self._bytes = 0


class NearView(Generic[T]):
    """The entries of one kind of record, by id."""

    def __init__(
        self, near: NearCache, entries: OrderedDict[_Key, _Entry], prefix: str, entity: str, codec: Codec[T]
    ) -> None:
        self._near = near
        self._prefix = prefix
        # Bound once: a hit takes a microsecond, and finding these again would be a good part of it.
        self._entry = entries.get
        self._move_to_end = entries.move_to_end
        self._kept = Keeping(codec).kept
        # Threads may lose a count between them; a lock would cost more than the hit.
        self._hits = self._misses = 0
        self._hit_counter = HITS.labels(entity, "near", "value")
        self._miss_counter = MISSES.labels(entity, "near")

    def peek(self, record_id: int) -> T | Miss | None:
        """The record, None for a known absence, or MISS. Anything but an int is a MISS: True is no 1.

        Without a lock: each step is one operation of the dictionary.
        """
        if type(record_id) is int:
            key = (self._prefix, record_id)
            entry = self._entry(key)
            if entry is not None and entry.expires_at >= monotonic() <= self._near.fresh_until:
                try:
                    self._move_to_end(key)
                except KeyError:
                    # Invalidated since it was looked at: this read was first.
                    pass
                self._hits += 1
                return entry.give(entry.value)  # type: ignore[no-any-return]
        self._misses += 1
        return MISS

    def take_place(self, record_id: int) -> object:
        return self._near.take_place((self._prefix, record_id))

    def put(self, record_id: int, raw: bytes, place: object) -> None:
        """Take in an entry that has been decoded once: a hit relies on it."""
        self._near.put((self._prefix, record_id), self._kept(packed_in(raw)), place)

    def leave_place(self, record_id: int, place: object) -> None:
        self._near.leave_place((self._prefix, record_id), place)

    def invalidate(self, record_ids: Iterable[int]) -> None:
        self._near.invalidate(self._prefix, record_ids)

    def report(self) -> None:
        hits, self._hits = self._hits, 0
        misses, self._misses = self._misses, 0
        self._hit_counter.inc(hits)
        self._miss_counter.inc(misses)
