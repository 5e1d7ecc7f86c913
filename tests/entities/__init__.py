"""For each entity, the values with which the tests of all entities try it. One module for each, named by its plural."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from db.entities import ENTITIES, Entity


@dataclass(frozen=True)
class Case:
    """An entity's values. `new` is the Struct that `add` takes, `row` an INSERT of one row that any role may try.

    `values` and `others` have two values for each field. References are 1, the id of the row that the other table's
    `row` inserts. `key` is the natural key. `listings` maps each listing by a reference to the field.
    """

    new: type
    row: str
    values: Mapping[str, Any]
    others: Mapping[str, Any]
    key: str = ""
    listings: Mapping[str, str] = field(default_factory=dict)


def case_of(entity: Entity) -> Case:
    case: Case = import_module(f"tests.entities.{entity.plural}").CASE
    return case


# An INSERT for each table, in the order of their references.
ROWS = {entity.plural: case_of(entity).row for entity in ENTITIES}
