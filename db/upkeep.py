"""The upkeep of the schema: what its tables need after the migrations, and then once a day.

`bootstrap` runs it on AWS after the migrations, and the access service runs it at start and every day.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.named_query import NamedQuery, queries


@dataclass(frozen=True)
class Upkeep:
    """An idempotent write without parameters that creates objects in advance, and returns the names of the new ones.

    `name` is its name in metrics and in the output of `bootstrap`. `objects` says in logs what it creates.
    """

    name: str
    objects: str
    query: NamedQuery


UPKEEP: tuple[Upkeep, ...] = (
    Upkeep("partitions", "partitions of activities", queries("activities")["make_activity_partitions"]),
)
