"""The pace of `top`: a changed interval takes effect at once."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from ops.top import collector
from ops.top.collector import Collector
from tests.containers import wait_until

_REDIS = "rediss://ops:secret@127.0.0.1:6379/0"


class _Source:
    """Counts its readings under the name of the source that it replaces."""

    wants_statements = False

    def __init__(self, name: str, readings: Counter[str]) -> None:
        self._name = name
        self._readings = readings

    def read(self) -> Any:
        self._readings[self._name] += 1

    def close(self) -> None:
        pass


def test_a_shorter_interval_takes_effect_before_the_longer_one_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings: Counter[str] = Counter()
    for name in ("PostgresSource", "RedisSource", "AccessSource"):
        monkeypatch.setattr(collector, name, lambda *_, name=name: _Source(name, readings))
    stack: Any = SimpleNamespace(
        access_url="http://localhost:1", prometheus_url=None, redis_url=_REDIS, redis_replicas=0
    )
    has_read = threading.Semaphore(0)
    watched = Collector(stack, 3600.0, wants_statements=False, on_read=has_read.release)
    watched.start()
    try:
        for _ in range(3):
            assert has_read.acquire(timeout=60)
        watched.change(0.01, False)
        wait_until(lambda: len(readings) == 3 and min(readings.values()) > 2, 60)
    finally:
        watched.stop()
