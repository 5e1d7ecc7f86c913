"""Credentials for new Redis connections."""

from __future__ import annotations

from redis.credentials import CredentialProvider

from cache.settings import CacheSettings


class UrlCredentials(CredentialProvider):
    """Reads user and password from the current connection string, so that new connections use a rotated password."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        # redis-py accepts an empty tuple as "no AUTH", although its types do not say so.
        return self._settings.credentials()  # type: ignore[return-value]

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()
