"""What is left of a thread's time: of its own block alone, and all of it where there is none."""

from __future__ import annotations

import threading
import time

from cache.time_limit import seconds_left, time_limit


def test_without_a_limit_a_step_gets_what_it_usually_gets() -> None:
    assert seconds_left(7.0) == 7.0
    with time_limit(1.0):
        pass
    assert seconds_left(7.0) == 7.0


def test_each_step_gets_what_the_ones_before_it_have_left() -> None:
    with time_limit(0.5):
        first = seconds_left(7.0)
        time.sleep(0.1)
        assert seconds_left(7.0) <= first - 0.1 < 0.5
        assert seconds_left(0.01) == 0.01


def test_time_that_is_over_is_not_none_which_would_mean_no_limit() -> None:
    with time_limit(0.0):
        time.sleep(0.01)
        assert 0 < seconds_left(7.0) < 0.01


def test_a_limit_is_its_own_threads() -> None:
    found: list[float] = []
    with time_limit(0.5):
        other = threading.Thread(target=lambda: found.append(seconds_left(7.0)))
        other.start()
        other.join()
    assert found == [7.0]
