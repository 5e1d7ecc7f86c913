"""User and password for a new Redis connection, read at that moment."""

from __future__ import annotations

from redis.credentials import CredentialProvider

from cache.settings import CacheSettings


class UrlCredentials(CredentialProvider):
    """What the connection string says now: a rotated password is taken up by the next connection."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        # redis-py takes an empty answer for "no AUTH", though its types do not say so.
        return self._settings.credentials()  # type: ignore[return-value]

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()
