"""The names of things in Redis: `gw:{namespace}:v{schema}:{entity}:{{id}}`, and the lease beside each value.

The braces around the id are Redis Cluster's hash tag: a value and its lease share a slot. Leases have a
prefix of their own, so that clients which track values are not told of every lease.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cached_property

VALUE_PREFIX = "gw"
LEASE_PREFIX = "gwl"
_STORED = re.compile(r"(gwl?):([a-z0-9_-]+):v(\d+):([a-z_]+):\{(-?\d+)\}(?::([0-9a-f]+))?")


@dataclass(frozen=True)
class EntityKeys:
    """The keys of one kind of record. `schema` changes with its type, so that old bytes are never decoded."""

    namespace: str
    entity: str
    schema: int

    def value(self, record_id: int) -> str:
        return f"{self.value_prefix}{{{record_id}}}"

    def lease(self, record_id: int) -> str:
        return f"{LEASE_PREFIX}:{self._rest(record_id)}"

    @cached_property
    def value_prefix(self) -> str:
        """What every value's key begins with, up to the hash tag."""
        return f"{VALUE_PREFIX}:{self._rest(0)}".partition("{")[0]

    def both(self, record_id: int) -> tuple[str, str]:
        """The value's key and the lease's, in the order that cache.scripts takes them."""
        return self.value(record_id), self.lease(record_id)

    def neighbours(self) -> list[EntityKeys]:
        """The keys of the schemas that run at the same time as this one while a release is rolled out."""
        return [replace(self, schema=n) for n in (self.schema - 1, self.schema, self.schema + 1) if n > 0]

    def _rest(self, record_id: int) -> str:
        return f"{self.namespace}:v{self.schema}:{self.entity}:{{{record_id}}}"


@dataclass(frozen=True)
class FeedKeys:
    """The keys of one kind of feed: a generation for each owner, and pages that are good under it alone.

    The generation lies beside the leases, for clients which track values need not be told of it.
    """

    namespace: str
    feed: str
    schema: int

    def generation(self, owner_id: int) -> str:
        return f"{LEASE_PREFIX}:{self._rest(owner_id)}"

    def page(self, owner_id: int, page: str) -> str:
        return f"{VALUE_PREFIX}:{self._rest(owner_id)}:{_digest(page)}"

    def lease(self, owner_id: int, page: str) -> str:
        return f"{LEASE_PREFIX}:{self._rest(owner_id)}:{_digest(page)}"

    def neighbours(self) -> list[FeedKeys]:
        """The keys of the schemas that run at the same time as this one while a release is rolled out."""
        return [replace(self, schema=n) for n in (self.schema - 1, self.schema, self.schema + 1) if n > 0]

    def _rest(self, owner_id: int) -> str:
        return f"{self.namespace}:v{self.schema}:{self.feed}:{{{owner_id}}}"


@dataclass(frozen=True)
class StoredKey:
    """A key as it stands in Redis, taken apart. `page` is a feed's page, or None."""

    layer: str
    namespace: str
    schema: int
    entity: str
    record_id: int
    page: str | None

    @classmethod
    def parse(cls, key: str) -> StoredKey | None:
        """None for what is no key of a record or a feed, the epoch's nonce above all."""
        found = _STORED.fullmatch(key)
        if found is None:
            return None
        layer, namespace, schema, entity, record_id, page = found.groups()
        return cls(layer, namespace, int(schema), entity, int(record_id), page)

    def generation(self) -> str:
        """Of a feed: what all pages of its owner hang on."""
        return FeedKeys(self.namespace, self.entity, self.schema).generation(self.record_id)


def epoch_nonce(namespace: str) -> str:
    """The key of the nonce that all of a namespace's entries hang on."""
    return f"{LEASE_PREFIX}:{namespace}:epoch"


def _digest(page: str) -> str:
    """A page's place in a key: cursors are long, and callers make them."""
    return hashlib.blake2s(page.encode(), digest_size=12).hexdigest()
