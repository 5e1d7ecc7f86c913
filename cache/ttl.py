"""How long an entry lives: three tiers, and a short one for absences, each with jitter."""

from __future__ import annotations

import random
from enum import IntEnum

JITTER = 0.1


class Tier(IntEnum):
    """Seconds of life by kind of data."""

    ABSENT = 30
    SHORT = 300
    MEDIUM = 3600
    LONG = 86400


def jittered_ms(tier: Tier, chance: random.Random = random.Random()) -> int:  # noqa: B008
    """The tier's life in milliseconds, 10 % more or less: written together does not mean expired together."""
    return int(tier * 1000 * chance.uniform(1 - JITTER, 1 + JITTER))
