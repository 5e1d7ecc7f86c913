"""The keys in Redis: `gw:NAMESPACE:vSCHEMA:ENTITY:{ID}` for a value, with the prefix `gwl` for its lease.

The braces around the id are a hash tag of Redis Cluster, so that a value and its lease are in the same slot. Leases
have a different prefix so that clients which track values are not notified of leases.

Ids are formatted as numbers: the text of an Enum of integers would be another key, which no writer invalidates.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

VALUE_PREFIX = "gw"
LEASE_PREFIX = "gwl"
# A number of more digits is neither a bigint of Postgres nor, from 4301 digits on, one that Python converts.
RECORD_ID = "-?[0-9]{1,19}"
_STORED = re.compile(
    rf"(gwl?):([a-z0-9_-]+):v([0-9]{{1,9}}):([a-z][a-z0-9_]*):\{{({RECORD_ID})\}}(?::([0-9a-f]+))?"
)


@dataclass(frozen=True)
class EntityKeys:
    """The keys of one kind of record. `schema` is incremented with each change of the type."""

    namespace: str
    entity: str
    schema: int

    def value(self, record_id: int) -> str:
        return f"{self.value_prefix}{{{int(record_id)}}}"

    def values(self, record_ids: Iterable[int]) -> list[str]:
        """Return the keys of many values. `value` would look up the prefix for each of them."""
        prefix = self.value_prefix
        return [f"{prefix}{{{int(record_id)}}}" for record_id in record_ids]

    def lease(self, record_id: int) -> str:
        return f"{LEASE_PREFIX}:{self._rest(record_id)}"

    @cached_property
    def value_prefix(self) -> str:
        """The common beginning of all value keys, up to the hash tag."""
        return f"{VALUE_PREFIX}:{self._rest(0)}".partition("{")[0]

    def both(self, record_id: int) -> tuple[str, str]:
        """Return the keys of value and lease, in the order that the scripts expect."""
        return self.value(record_id), self.lease(record_id)

    def neighbours(self) -> list[EntityKeys]:
        """Return the keys of this schema and of the previous and next one, which may run during a rollout."""
        return [replace(self, schema=n) for n in (self.schema - 1, self.schema, self.schema + 1) if n > 0]

    def _rest(self, record_id: int) -> str:
        return f"{self.namespace}:v{self.schema}:{self.entity}:{{{int(record_id)}}}"


@dataclass(frozen=True)
class FeedKeys:
    """The keys of one kind of feed: a generation for each owner, and pages that are valid only with it.

    The generation has the prefix of leases, so that clients which track values are not notified of it.
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
        """Return the keys of this schema and of the previous and next one, which may run during a rollout."""
        return [replace(self, schema=n) for n in (self.schema - 1, self.schema, self.schema + 1) if n > 0]

    def _rest(self, owner_id: int) -> str:
        return f"{self.namespace}:v{self.schema}:{self.feed}:{{{int(owner_id)}}}"


@dataclass(frozen=True)
class StoredKey:
    """A parsed key of Redis. `page` is the digest of a feed's page, or None."""

    layer: str
    namespace: str
    schema: int
    entity: str
    record_id: int
    page: str | None

    @classmethod
    def parse(cls, key: str) -> StoredKey | None:
        """Parse a key. Return None if it is not of a record or a feed, such as the epoch's nonce."""
        found = _STORED.fullmatch(key)
        if found is None:
            return None
        layer, namespace, schema, entity, record_id, page = found.groups()
        return cls(layer, namespace, int(schema), entity, int(record_id), page)

    def generation(self) -> str:
        """Return the generation key that all pages of this feed's owner depend on."""
        return FeedKeys(self.namespace, self.entity, self.schema).generation(self.record_id)


def epoch_nonce(namespace: str) -> str:
    """Return the key of the nonce that all entries of a namespace depend on."""
    return f"{LEASE_PREFIX}:{namespace}:epoch"


def write_fence(namespace: str) -> str:
    """Return a key that never exists. A server that lets a client delete it accepts writes, so it may be read."""
    return f"{LEASE_PREFIX}:{namespace}:fence"


def _digest(page: str) -> str:
    """Return a page's digest for its key, because cursors are long and come from callers."""
    return hashlib.blake2s(page.encode(), digest_size=12).hexdigest()
