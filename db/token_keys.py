"""Where the keys of tokens come from: GROUNDWORK_TOKEN_KEYS, or a file that is read again when it changes."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cache.url_source import UrlSource
from db.crypto import Keyring
from db.errors import InvalidSetting

VARIABLE = "GROUNDWORK_TOKEN_KEYS"


class TokenKeys:
    """The keyring as it is now. Without any, everything but tokens works."""

    def __init__(self, source: UrlSource | None) -> None:
        self._source = source
        self._text: str | None = None
        self._keyring: Keyring | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> TokenKeys:
        environment = os.environ if environment is None else environment
        if not environment.get(VARIABLE) and not environment.get(f"{VARIABLE}_FILE"):
            return cls(None)
        return cls(UrlSource.from_environment(VARIABLE, InvalidSetting, environment))

    @classmethod
    def of(cls, text: str) -> TokenKeys:
        """Keys given as text: `id:base64url,id:base64url`."""
        return cls(UrlSource(VARIABLE, InvalidSetting, text))

    def keyring(self) -> Keyring:
        """InvalidSetting where there is none, or it cannot be read."""
        if self._source is None:
            raise InvalidSetting(
                f"tokens need keys: set {VARIABLE} or {VARIABLE}_FILE; `groundwork env --tokens` prints a stack's"
            )
        text = self._source.read()
        keyring = self._keyring
        if keyring is None or text != self._text:
            keyring = Keyring.parse(text, VARIABLE)
            self._keyring, self._text = keyring, text
        return keyring
