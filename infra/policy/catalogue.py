"""Everything that can be found, by id: the rules, and the ways of losing data."""

from __future__ import annotations

from infra.policy.loss import LOSSES, Loss
from infra.policy.rule import Rule
from infra.policy.rules import RULES

CATALOGUE: tuple[Rule | Loss, ...] = (*RULES, *LOSSES)
IDS = frozenset(each.id for each in CATALOGUE)
