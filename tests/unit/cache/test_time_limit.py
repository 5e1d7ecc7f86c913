"""The remaining time of a thread: only its own block counts, and without a block there is no limit."""

from __future__ import annotations

import threading
import time

from cache.synchronization import seconds_left, time_limit


def test_without_a_limit_a_step_gets_its_usual_time() -> None:
    assert seconds_left(7.0) == 7.0
    with time_limit(1.0):
        pass
    assert seconds_left(7.0) == 7.0


def test_each_step_gets_the_remaining_time() -> None:
    with time_limit(60.0):
        first = seconds_left(70.0)
        time.sleep(0.1)
        assert seconds_left(70.0) <= first - 0.1 < 60.0
        assert seconds_left(0.01) == 0.01


def test_no_time_left_is_not_the_same_as_no_limit() -> None:
    with time_limit(0.0):
        time.sleep(0.01)
        assert 0 < seconds_left(7.0) < 0.01


def test_a_limit_belongs_to_one_thread() -> None:
    found: list[float] = []
    with time_limit(0.5):
        other = threading.Thread(target=lambda: found.append(seconds_left(7.0)))
        other.start()
        other.join()
    assert found == [7.0]
