"""A packed command has the same bytes as the one that redis-py would send."""

from __future__ import annotations

import pytest
from redis.connection import Encoder, PythonRespSerializer

from cache._async.connections import packed


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(("GET", "gw:main:v1:user:{7}"), id="one key"),
        pytest.param(("MGET", *(f"gw:main:v1:user:{{{n}}}" for n in range(300))), id="more than one buffer"),
        pytest.param(("GET", ""), id="an empty key"),
    ],
)
def test_the_bytes_are_the_same_as_redis_pys(parts: tuple[str, ...]) -> None:
    theirs = PythonRespSerializer(6000, Encoder("utf-8", "strict", False).encode).pack(*parts)
    assert packed(*parts) == b"".join(theirs)


def test_a_key_whose_length_in_bytes_differs_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        packed("GET", "gw:main:v1:user:{é}")
