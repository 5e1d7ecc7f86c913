"""The near cache by itself: bounds, freshness, and the race of a read with an invalidation."""

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

PREFIX = "gw:main:v1:user:"


CODEC: Codec[str] = Codec(str, lambda text: 1)


def _raw(text: str | None) -> bytes:
    """An entry as it lies in Redis."""
    return CODEC.encode(text, b"epoch", 1000, 1)


def _standing(entries: int = 3, size: int = 1 << 20, ttl: float = 60.0) -> tuple[NearCache, NearView[str]]:
    near = NearCache(entries, size, ttl)
    view: NearView[str] = near.view(PREFIX, "user", CODEC)
    near.stand()
    near.confirm(time.monotonic() + 60)
    return near, view


@pytest.fixture
def near() -> NearCache:
    return _standing()[0]


def _put(view: NearView[str], record_id: int, text: str | None = "x") -> None:
    view.put(record_id, _raw(text), view.take_place(record_id))


def test_what_was_put_in_is_found_and_a_known_absence_is_none() -> None:
    _, view = _standing()
    assert view.peek(7) is MISS
    _put(view, 7, "ada")
    _put(view, 8, None)
    assert view.peek(7) == "ada"
    assert view.peek(8) is None


@pytest.mark.parametrize("impostor", [True, 1.0, "1", None])
def test_only_an_int_is_an_id(impostor: object) -> None:
    _, view = _standing()
    _put(view, 1, "ada")
    assert view.peek(impostor) is MISS  # type: ignore[arg-type]


def test_an_invalidated_read_under_way_is_not_put_in() -> None:
    near, view = _standing()
    place = view.take_place(7)
    near.invalidate_keys([f"{PREFIX}{{7}}".encode()])
    view.put(7, _raw("old"), place)
    assert view.peek(7) is MISS


def test_without_the_place_the_old_value_would_stay() -> None:
    """The control of the test above: taking the place only when the value is there is too late."""
    near, view = _standing()
    near.invalidate_keys([f"{PREFIX}{{7}}".encode()])
    view.put(7, _raw("old"), view.take_place(7))
    assert view.peek(7) == "old"


def test_a_read_from_before_tracking_stood_is_not_put_in() -> None:
    near, view = _standing()
    near.fall()
    place = view.take_place(7)
    near.stand()
    near.confirm(time.monotonic() + 60)
    view.put(7, _raw("old"), place)
    assert view.peek(7) is MISS


def test_after_a_fall_nothing_is_known_and_nothing_taken_in() -> None:
    near, view = _standing()
    _put(view, 7)
    near.fall()
    assert view.peek(7) is MISS
    near.confirm(time.monotonic() + 60)
    _put(view, 7)
    assert view.peek(7) is MISS


def test_it_is_silent_once_it_was_not_confirmed_for_long() -> None:
    near, view = _standing()
    _put(view, 7)
    near.confirm(time.monotonic() - FRESH_SECONDS - 0.001)
    assert view.peek(7) is MISS
    # Every invalidation is heard in order: what is still here when it is confirmed again is right.
    near.confirm(time.monotonic())
    assert view.peek(7) == "x"


def test_an_entry_expires() -> None:
    _, view = _standing(ttl=0.01)
    _put(view, 7)
    time.sleep(0.02)
    assert view.peek(7) is MISS


def test_the_least_recently_used_goes_first() -> None:
    _, view = _standing(entries=3)
    for n in (1, 2, 3):
        _put(view, n)
    view.peek(1)
    _put(view, 4)
    assert [view.peek(n) is MISS for n in (1, 2, 3, 4)] == [False, True, False, False]


def _errors_of_readers_beside_evictions(
    near: NearCache, view: NearView[str], puts: int
) -> list[BaseException]:
    """What a writer's evictions and three threads' hits do to one another."""
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


def test_asking_for_the_oldest_and_taking_it_out_are_disturbed() -> None:
    """The negative control: between the two steps a hit reorders what is iterated over."""
    near, view = _standing(entries=8)

    class InTwoSteps(OrderedDict[Any, Any]):
        def popitem(self, last: bool = True) -> Any:
            key = next(iter(self))
            return key, self.pop(key)

    near._entries = InTwoSteps()
    view = near.view(PREFIX, "user", CODEC)
    assert _errors_of_readers_beside_evictions(near, view, 400_000) != []


def test_keys_of_others_are_passed_over(near: NearCache) -> None:
    near.invalidate_keys(
        [b"", b"gw:", f"{PREFIX}{{x}}".encode(), b"gw:main:v1:user_feed:{7}:00", b"\xff\xfe{1}"]
    )


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2000), st.booleans()), max_size=60))
def test_its_bounds_hold_whatever_comes(steps: list[tuple[int, int, bool]]) -> None:
    limit = 5 * _ENTRY_BYTES
    near, view = _standing(entries=4, size=limit)
    for record_id, size, is_put in steps:
        if is_put:
            _put(view, record_id, "x" * size)
        else:
            view.invalidate([record_id])
        assert len(near._entries) <= 4
        assert near._bytes == sum(e.size for e in near._entries.values()) <= limit
