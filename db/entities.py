"""The entities whose records are cached, and the feeds. This is the only list of them.

The data access, the drainer of the outbox, the commands and the tests use it. It is plain data, so that shell
completion can import it quickly. `groundwork new entity` adds a line.

FEEDS has for each feed its module in db/_async, which has the SCHEMA and the PAGE of its entries.
"""

from __future__ import annotations

from typing import NamedTuple


class Entity(NamedTuple):
    """One kind of record. `name` is the entity in cache keys and in the outbox.

    `plural` is the name of its table, of its file in db/queries, of its module in db/_async, and of its repository in
    the data access.
    """

    name: str
    plural: str


ENTITIES: tuple[Entity, ...] = (
    Entity("user", "users"),
    Entity("organization", "organizations"),
    Entity("repository", "repositories"),
)
FEEDS: dict[str, str] = {"user_feed": "activity_feeds", "repository_feed": "activity_feeds"}
CACHED = (*(entity.name for entity in ENTITIES), *FEEDS)
