"""The breaker closes while writers keep failing to deliver invalidations: the probe delivers them in rounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cache._async.client import AsyncClient
from cache._sync.client import Client
from cache.settings import CacheSettings
from tests.promises import promise

SETTINGS = CacheSettings.from_environment({"REDIS_URL": "redis://localhost:1/0"})


def probe(make: Any, failing_writes: int) -> tuple[bool, int]:
    """Probe once, while each delivery is overtaken by another failing write, this many times.

    Return whether the breaker is open afterwards, and the number of deliveries.
    """
    client = make(SETTINGS)
    deliveries = 0

    def deliver() -> None:
        nonlocal deliveries
        deliveries += 1
        if deliveries <= failing_writes:
            client.breaker.owe("v", "l")

    async def async_answer(*_: Any, **__: Any) -> None:
        return

    async def async_unlink(*_: Any, **__: Any) -> None:
        deliver()

    is_async = make is AsyncClient
    client.ping = async_answer if is_async else lambda: None
    client.unlink = async_unlink if is_async else lambda *_, **__: deliver()
    client.breaker.owe("v", "l")
    if is_async:
        asyncio.run(client._probe())
    else:
        client._probe()
    return client.breaker.is_open, deliveries


@promise("Redis is used again although writers keep writing")
@pytest.mark.parametrize("make", [AsyncClient, Client])
def test_writes_during_the_delivery_are_delivered_too(make: Any) -> None:
    assert probe(make, 0) == (False, 1)
    assert probe(make, 5) == (False, 6)


@pytest.mark.parametrize("make", [AsyncClient, Client])
def test_a_delivery_that_is_always_overtaken_ends(make: Any) -> None:
    is_open, deliveries = probe(make, 10_000)
    assert is_open
    assert deliveries < 100
