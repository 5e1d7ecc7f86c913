"""The errors of the cache. Repositories raise none of them when Redis fails: they read from Postgres instead.

CacheSettingError is raised when the data access is created. No message contains a secret or a whole connection string.
"""

from __future__ import annotations

from infra.spec.errors import PortableError


class CacheError(PortableError):
    """The base class of the cache's errors."""


class CacheSettingError(CacheError):
    """A setting of the cache is missing or invalid."""


class CacheUnavailable(CacheError):
    """Redis did not answer in time, returned an error, or was not called because the breaker is open."""


class UndecodableEntry(CacheError):
    """An entry in Redis cannot be decoded as this type and schema, or a value cannot be encoded."""

    # The value of the label `outcome` for a fill that fails with this error.
    outcome = "unencodable"


class EntryTooLarge(UndecodableEntry):
    """A value is too large to be cached: one call to Redis may not take that long."""

    outcome = "too_large"
