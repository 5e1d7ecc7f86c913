"""What a replica must have replayed before it may answer a read."""

from __future__ import annotations

import asyncio

import pytest

import db.positions
from db.errors import ConstraintViolated, InvalidInput, OutcomeUnknown
from db.positions import KnownPositions
from db.reading import Reading, current_reading, reading_block
from db.rows import BEGINNING, Position
from tests.cases import in_case
from tests.promises import promise


class Clock:
    """Stands for the monotonic clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(db.positions, "monotonic", clock)
    return clock


def learn(known: KnownPositions, lsn: int, timeline: int = 1) -> Position:
    position = Position(timeline, lsn)
    known.learned(known.before_asking(), position)
    return position


def write(known: KnownPositions) -> None:
    with known.writing(8.0):
        pass


def test_without_a_bound_and_without_writes_every_replica_may_answer() -> None:
    assert KnownPositions().required(None) == BEGINNING


def test_after_a_write_the_primary_is_asked_once() -> None:
    known = KnownPositions()
    write(known)
    assert known.required(None) is None
    position = learn(known, 7)
    assert known.required(None) == position
    write(known)
    assert known.required(None) is None


def test_a_write_that_ends_while_the_primary_is_asked_is_not_behind_its_answer() -> None:
    known = KnownPositions()
    write(known)
    before = known.before_asking()
    write(known)
    known.learned(before, Position(1, 7))
    assert known.required(None) is None


def test_a_write_that_fails_counts_because_a_part_of_it_may_be_committed() -> None:
    known = KnownPositions()
    learn(known, 7)
    with pytest.raises(ConstraintViolated), known.writing(8.0):
        raise ConstraintViolated("add_user", None)
    assert known.required(None) is None
    assert not known.is_unknown()


@promise(
    "after a write whose outcome is unknown, the primary answers until the write cannot be committed any more"
)
@pytest.mark.parametrize(
    "error", [OutcomeUnknown("no answer"), asyncio.CancelledError(), KeyboardInterrupt()]
)
def test_a_write_without_an_answer_may_be_committed_later(error: BaseException, clock: Clock) -> None:
    known = KnownPositions()
    with pytest.raises(type(error)), known.writing(8.0):
        raise error
    assert known.is_unknown()
    clock.now += 7.9
    assert known.is_unknown()
    clock.now += 0.2
    assert not known.is_unknown()
    assert known.required(None) is None


@promise("a replica answers only if it has every write that is older than max_staleness")
def test_the_bound_takes_the_oldest_position_that_is_young_enough(clock: Clock) -> None:
    known = KnownPositions()
    positions = []
    for lsn in (10, 20, 30):
        positions.append(learn(known, lsn))
        clock.now += 1.0
    assert known.required(10.0) == positions[0]
    assert known.required(2.5) == positions[1]
    assert known.required(1.0) == positions[2]
    assert known.required(0.5) is None


def test_frequent_positions_do_not_evict_older_ones(clock: Clock) -> None:
    known = KnownPositions()
    first = learn(known, 1)
    for lsn in range(2, 500):
        clock.now += 0.01
        last = learn(known, lsn)
    assert known.required(10.0) == first
    assert known.required(0.001) == last


def test_own_writes_count_more_than_the_bound(clock: Clock) -> None:
    known = KnownPositions()
    learn(known, 10)
    clock.now += 1.0
    write(known)
    assert known.required(10.0) is None
    own = learn(known, 20)
    assert known.required(10.0) == own


def test_forgetting_asks_again() -> None:
    known = KnownPositions()
    write(known)
    learn(known, 10)
    known.forget()
    assert known.required(None) is None
    assert known.required(10.0) is None


def test_the_primary_is_asked_in_the_background_only_while_there_are_reads(clock: Clock) -> None:
    known = KnownPositions()
    assert not known.needs_sample()
    known.required(10.0)
    assert known.needs_sample()
    learn(known, 1)
    clock.now += 5.0
    assert not known.needs_sample()
    known.required(10.0)
    assert known.needs_sample()


def test_positions_of_a_later_timeline_are_later() -> None:
    assert Position(1, 900) < Position(2, 5)


def test_a_position_survives_its_text_form() -> None:
    position = Position(3, 0x1_6B37_A8)
    assert str(position) == "3-16B37A8-BCC1"
    assert Position.parse(str(position)) == position


def test_text_that_is_not_a_position_is_refused() -> None:
    cases: list[object] = [
        "",
        "0/16B37A8",
        "1-",
        "1-XYZ",
        "1-16b37a8-9447",
        " 1-1-0C60",
        "1-1-0C60\n",
        None,
        7,
        "111111111-1-EA2A",
        # Without the checksum, its last digit, with another timeline or LSN, and with a leading zero.
        "3-16B37A8",
        "3-16B37A8-BCC",
        "63-16B37A8-BCC1",
        "3-16B37A-BCC1",
        "3-016B37A8-BCC1",
        "3-016B37A8-443B",
    ]
    for text in cases:
        with in_case(text):
            with pytest.raises(
                InvalidInput, match=r"after: .* is not a position; pass what write_position\(\) returned"
            ):
                Position.parse(text)


def test_an_invalid_bound_is_refused() -> None:
    for seconds in (0, -1.0, True, "10", float("nan"), 86_401):
        with in_case(seconds):
            with pytest.raises(InvalidInput, match="max_staleness"), reading_block(seconds, None):  # type: ignore[arg-type]
                pass


def test_the_innermost_block_counts() -> None:
    with reading_block(5.0, None), reading_block(None, str(Position(1, 10))):
        assert current_reading() == Reading(None, Position(1, 10))


def test_a_block_ends_with_an_error_and_the_outer_one_counts_again() -> None:
    with reading_block(5.0, None):
        outer = current_reading()
        with pytest.raises(RuntimeError), reading_block(None, str(Position(1, 10))):
            raise RuntimeError(current_reading())
        assert current_reading() is outer
    assert current_reading() is None
