"""The near cache on its own: bounds, freshness, and the race between a read and an invalidation."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.codec import Codec
from cache.near import _ENTRY_BYTES, FRESH_SECONDS, MISS, NearCache, NearView
from tests.cases import in_case
from tests.promises import promise

PREFIX = "gw:main:v1:user:"


CODEC: Codec[str] = Codec(str, lambda text: 1)


def _raw(text: str | None) -> bytes:
    """Return an entry as it is stored in Redis."""
    return CODEC.encode(text, b"epoch", 1000, 1)


def _standing(entries: int = 3, size: int = 1 << 20, ttl: float = 60.0) -> tuple[NearCache, NearView[str]]:
    near = NearCache(entries, size, ttl)
    view: NearView[str] = near.view(PREFIX, "user", CODEC)
    near.enable()
    near.confirm(time.monotonic() + 60)
    return near, view


@pytest.fixture
def near() -> NearCache:
    return _standing()[0]


def _put(view: NearView[str], record_id: int, text: str | None = "x") -> None:
    view.put(record_id, _raw(text), view.begin_read(record_id, object()))


def test_a_stored_value_is_found_and_a_known_absence_is_none() -> None:
    _, view = _standing()
    assert view.peek(7) is MISS
    _put(view, 7, "ada")
    _put(view, 8, None)
    assert view.peek(7) == "ada"
    assert view.peek(8) is None


def test_only_an_int_is_an_id() -> None:
    for impostor in (True, 1.0, "1", None):
        with in_case(impostor):
            _, view = _standing()
            _put(view, 1, "ada")
            assert view.peek(impostor) is MISS  # type: ignore[arg-type]


def test_a_read_that_was_invalidated_meanwhile_is_not_stored() -> None:
    near, view = _standing()
    ticket = view.begin_read(7, object())
    near.invalidate_keys([f"{PREFIX}{{7}}".encode()])
    view.put(7, _raw("old"), ticket)
    assert view.peek(7) is MISS


def test_without_a_place_the_stale_value_would_stay() -> None:
    """Negative control: beginning the read only when the value has arrived is too late."""
    near, view = _standing()
    near.invalidate_keys([f"{PREFIX}{{7}}".encode()])
    view.put(7, _raw("old"), view.begin_read(7, object()))
    assert view.peek(7) == "old"


def test_a_read_from_before_tracking_was_enabled_is_not_stored() -> None:
    near, view = _standing()
    near.disable()
    ticket = view.begin_read(7, object())
    near.enable()
    near.confirm(time.monotonic() + 60)
    view.put(7, _raw("old"), ticket)
    assert view.peek(7) is MISS


def test_after_tracking_is_lost_nothing_is_found_or_stored() -> None:
    near, view = _standing()
    _put(view, 7)
    near.disable()
    assert view.peek(7) is MISS
    near.confirm(time.monotonic() + 60)
    _put(view, 7)
    assert view.peek(7) is MISS


def test_it_returns_nothing_while_its_last_confirmation_is_too_old() -> None:
    near, view = _standing()
    _put(view, 7)
    near.confirm(time.monotonic() - FRESH_SECONDS - 0.001)
    assert view.peek(7) is MISS
    # Invalidations arrive in order, so entries that are still stored at the next confirmation are correct.
    near.confirm(time.monotonic())
    assert view.peek(7) == "x"


def test_an_entry_expires() -> None:
    _, view = _standing(ttl=0.01)
    _put(view, 7)
    time.sleep(0.02)
    assert view.peek(7) is MISS


def test_the_least_recently_used_entry_is_evicted_first() -> None:
    _, view = _standing(entries=3)
    for n in (1, 2, 3):
        _put(view, n)
    view.peek(1)
    _put(view, 4)
    assert [view.peek(n) is MISS for n in (1, 2, 3, 4)] == [False, True, False, False]


def _errors_of_readers_beside_evictions(
    near: NearCache, view: NearView[str], puts: int
) -> list[BaseException]:
    """Return the errors when a writer evicts entries while three threads read."""
    errors: list[BaseException] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            for record_id in range(8):
                view.peek(record_id)

    def write() -> None:
        try:
            for n in range(puts):
                _put(view, n % 16)
        except RuntimeError as error:
            errors.append(error)
        finally:
            is_over.set()

    near.confirm(time.monotonic() + 600)
    threads = [threading.Thread(target=each) for each in (read, read, read, write)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return errors


def test_hits_of_other_threads_do_not_disturb_an_eviction() -> None:
    near, view = _standing(entries=8)
    assert _errors_of_readers_beside_evictions(near, view, 40_000) == []


def test_finding_and_removing_the_oldest_entry_in_two_steps_is_disturbed() -> None:
    """Negative control: between the two steps, a hit reorders the entries during the iteration."""
    near, view = _standing(entries=8)

    class InTwoSteps(OrderedDict[Any, Any]):
        def popitem(self, last: bool = True) -> Any:
            key = next(iter(self))
            return key, self.pop(key)

    near._entries = InTwoSteps()
    view = near.view(PREFIX, "user", CODEC)
    assert _errors_of_readers_beside_evictions(near, view, 400_000) != []


def test_keys_of_other_namespaces_are_ignored(near: NearCache) -> None:
    near.invalidate_keys(
        [b"", b"gw:", f"{PREFIX}{{x}}".encode(), b"gw:main:v1:user_feed:{7}:00", b"\xff\xfe{1}"]
    )
    for number in ("²", "٣", "--5", "9" * 5000):
        near.invalidate_keys([f"{PREFIX}{{{number}}}".encode()])


@promise("the near cache stays within its limits of entries and bytes")
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2000), st.booleans()), max_size=60))
def test_its_bounds_are_never_exceeded(steps: list[tuple[int, int, bool]]) -> None:
    limit = 5 * _ENTRY_BYTES
    near, view = _standing(entries=4, size=limit)
    for record_id, size, is_put in steps:
        if is_put:
            _put(view, record_id, "x" * size)
        else:
            view.invalidate([record_id])
        assert len(near._entries) <= 4
        assert near._bytes == sum(e.size for e in near._entries.values()) <= limit
