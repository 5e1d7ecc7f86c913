"""The root of the Redis side's errors. Callers of `db` never see one: a sick cache costs time, not answers.

No message carries a secret or a whole connection string.
"""

from __future__ import annotations


class CacheError(Exception):
    """The Redis side cannot do what was asked."""


class CacheSettingError(CacheError):
    """A setting of the cache has a value that cannot be used."""


class CacheUnavailable(CacheError):
    """Redis gave no answer in time, refused, or is being left alone by the breaker."""


class UndecodableEntry(CacheError):
    """Bytes in Redis are not an entry of this key's type and schema, or a value has none."""

    # What a fill that ends in this is counted as.
    outcome = "unencodable"


class EntryTooLarge(UndecodableEntry):
    """A value is larger than what one call to Redis should carry."""

    outcome = "too_large"
