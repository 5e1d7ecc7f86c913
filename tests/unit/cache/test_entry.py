"""The header of an entry, and the choice of the reader that refreshes it."""

from __future__ import annotations

import pytest

from cache.entry import absence, entry, header_of, is_due, packed_in
from tests.cases import in_case

EPOCH = b"0123456789abcdef"


def _due(life_ms: int, cost_ms: int) -> float:
    raw = entry(EPOCH, 1, life_ms, cost_ms, b"x")
    return sum(is_due(raw) for _ in range(2000)) / 2000


def test_an_expired_entry_is_always_due() -> None:
    assert _due(-1, 1) == 1


def test_an_entry_with_a_long_life_left_is_not_due() -> None:
    assert _due(3_600_000, 5) == 0


def test_one_reader_in_e_refreshes_when_the_remaining_life_equals_the_cost() -> None:
    # exp(-1) = 0.37, minus the time that the readers take here.
    assert 0.3 < _due(100_000, 100_000) < 0.44


def test_an_expensive_entry_is_due_sooner() -> None:
    assert _due(10_000, 1_000) < _due(10_000, 10_000) < _due(10_000, 100_000)


def test_the_luckiest_reader_refreshes_at_37_times_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """`random` has 53 bits, so no reader is due before."""
    monkeypatch.setattr("random.random", lambda: 1 - 2**-53)
    monkeypatch.setattr("cache.entry.time", lambda: 1000.0)
    assert is_due(entry(EPOCH, 1, 36_700, 1_000, b"x"))
    assert not is_due(entry(EPOCH, 1, 36_800, 1_000, b"x"))


def test_an_absence_is_never_due() -> None:
    assert not is_due(absence(EPOCH))


def test_a_packed_value_may_contain_colons() -> None:
    for packed in (b"", b":", b"a:b:c:d:e"):
        with in_case(packed):
            raw = entry(EPOCH, 7, 1000, 3, packed)
            assert packed_in(raw) == packed
            assert raw == header_of(raw) + packed
