"""TTLs of entries: the tiers, and their jitter."""

from __future__ import annotations

import random

from cache.timing import JITTER, Tier, jittered_ms
from tests.cases import in_case


def test_the_tiers_match_the_documentation() -> None:
    cases: list[tuple[Tier, int]] = [
        (Tier.SHORT, 300),
        (Tier.MEDIUM, 3600),
        (Tier.LONG, 86400),
        (Tier.ABSENT, 30),
    ]
    for tier, seconds in cases:
        with in_case(tier, seconds):
            assert tier == seconds


def test_a_ttl_is_within_its_jitter_and_varies() -> None:
    for tier in list(Tier):
        with in_case(tier):
            chance = random.Random(7)
            lives = [jittered_ms(tier, chance) / 1000 for _ in range(1000)]
            assert tier * (1 - JITTER) - 0.001 <= min(lives)
            assert max(lives) <= tier * (1 + JITTER)
            # Spread over most of the allowed range, not only somewhere inside it.
            assert max(lives) - min(lives) > tier * JITTER
