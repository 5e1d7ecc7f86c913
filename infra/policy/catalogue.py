"""Everything that a check can find, by id: violations of rules, and losses of data."""

from __future__ import annotations

from infra.policy.loss import LOSSES, Loss
from infra.policy.rule import Rule
from infra.policy.rules import RULES

CATALOGUE: tuple[Rule | Loss, ...] = (*RULES, *LOSSES)
IDS = frozenset(each.id for each in CATALOGUE)
