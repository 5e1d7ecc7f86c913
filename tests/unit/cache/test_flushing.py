"""The keys that a pattern of `groundwork cache flush` matches, and invalid patterns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cache import flushing
from cache.errors import CacheSettingError
from cache.flushing import key_patterns
from cache.keys import EntityKeys, FeedKeys, StoredKey, epoch_nonce
from tests.cases import in_case


def test_a_pattern_matches_its_namespace_and_includes_the_pages_of_feeds() -> None:
    cases: list[tuple[str, list[str]]] = [
        ("*", ["gw:main:*"]),
        ("v1:user:*", ["gw:main:v1:user:*"]),
        ("v1:user:{7}", ["gw:main:v1:user:{7}", "gw:main:v1:user:{7}:*"]),
        ("gw:main:v1:user:{7*}", ["gw:main:v1:user:{7*}", "gw:main:v1:user:{7*}:*"]),
        ("gwl:main:*", ["gw:main:*"]),
    ]
    for pattern, expected in cases:
        with in_case(pattern, expected):
            assert key_patterns("main", pattern, "gw") == expected


def test_a_pattern_that_matches_nothing_or_too_much_is_refused() -> None:
    cases: list[str] = [
        "",
        "v1",
        "v1:user",
        "v1:user:7",
        "gw:other:*",
        "gwl:other:*",
        "*:user_feed:{7}:abc*",
        "{7}:a",
    ]
    for pattern in cases:
        with in_case(pattern):
            with pytest.raises(CacheSettingError):
                key_patterns("main", pattern, "gw")


def test_every_key_of_a_record_is_parsed() -> None:
    for record_id in (7, -1, 2**62):
        with in_case(record_id):
            keys = EntityKeys("main", "user", 3)
            assert StoredKey.parse(keys.value(record_id)) == StoredKey(
                "gw", "main", 3, "user", record_id, None
            )
            assert StoredKey.parse(keys.lease(record_id)) == StoredKey(
                "gwl", "main", 3, "user", record_id, None
            )


def test_the_keys_of_an_entity_with_a_digit_in_its_name_are_parsed() -> None:
    key = EntityKeys("main", "oauth2_app", 1).value(7)
    assert StoredKey.parse(key) == StoredKey("gw", "main", 1, "oauth2_app", 7, None)


def test_every_key_of_a_feed_is_parsed_and_leads_to_its_generation() -> None:
    keys = FeedKeys("main", "user_feed", 1)
    for key in (keys.page(7, "50"), keys.lease(7, "50")):
        parsed = StoredKey.parse(key)
        assert parsed is not None
        assert parsed.page is not None
        assert parsed.generation() == keys.generation(7)
    generation = StoredKey.parse(keys.generation(7))
    assert generation is not None
    assert generation.page is None


def test_other_keys_are_not_parsed() -> None:
    cases: list[str] = [epoch_nonce("main"), "gw:main", "session:1", "gw:main:v1:user:7", ""]
    for key in cases:
        with in_case(key):
            assert StoredKey.parse(key) is None


def test_time_without_keys_allows_no_faster_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        clock[0] += seconds

    monkeypatch.setattr(flushing, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    pace = flushing._Pace(1000)
    # A scan of 20 s that finds nothing.
    clock[0] += 20
    for _ in range(3):
        pace.keep(500)
    assert slept == [0.5, 0.5, 0.5]
