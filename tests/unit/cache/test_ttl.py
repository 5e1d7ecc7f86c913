"""TTLs of entries: the tiers, and their jitter."""

from __future__ import annotations

import random

import pytest

from cache.timing import JITTER, Tier, jittered_ms


@pytest.mark.parametrize(
    ("tier", "seconds"), [(Tier.SHORT, 300), (Tier.MEDIUM, 3600), (Tier.LONG, 86400), (Tier.ABSENT, 30)]
)
def test_the_tiers_match_the_documentation(tier: Tier, seconds: int) -> None:
    assert tier == seconds


@pytest.mark.parametrize("tier", list(Tier))
def test_a_ttl_is_within_its_jitter_and_varies(tier: Tier) -> None:
    chance = random.Random(7)
    lives = [jittered_ms(tier, chance) / 1000 for _ in range(1000)]
    assert tier * (1 - JITTER) - 0.001 <= min(lives)
    assert max(lives) <= tier * (1 + JITTER)
    # Spread over most of the allowed range, not only somewhere inside it.
    assert max(lives) - min(lives) > tier * JITTER
