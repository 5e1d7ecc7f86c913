"""The encryption keys of tokens, from GROUNDWORK_TOKEN_KEYS or from the file GROUNDWORK_TOKEN_KEYS_FILE."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cache.url_source import UrlSource
from db.crypto import Keyring
from db.errors import InvalidSetting

VARIABLE = "GROUNDWORK_TOKEN_KEYS"


class TokenKeys:
    """The source of the keyring. A file is read for every use, so that keys can be rotated without a restart.

    Without keys, everything except tokens works.
    """

    def __init__(self, source: UrlSource | None) -> None:
        self._source = source
        # The text that was parsed last, and its keyring. One attribute, because threads read it without a lock.
        self._parsed: tuple[str, Keyring] | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> TokenKeys:
        """Return the source named by GROUNDWORK_TOKEN_KEYS or GROUNDWORK_TOKEN_KEYS_FILE, or one without keys."""
        environment = os.environ if environment is None else environment
        if VARIABLE not in environment and f"{VARIABLE}_FILE" not in environment:
            return cls(None)
        return cls(UrlSource.from_environment(VARIABLE, InvalidSetting, environment))

    @classmethod
    def of(cls, text: str) -> TokenKeys:
        """Return a source with the keys in `text`: `id:base64url,id:base64url`."""
        return cls(UrlSource(VARIABLE, InvalidSetting, text))

    def keyring(self) -> Keyring:
        """Return the current keyring. Raises InvalidSetting if there are no keys or they cannot be read."""
        if self._source is None:
            raise InvalidSetting(
                f"no token keys are set; set {VARIABLE} or {VARIABLE}_FILE (`groundwork env --tokens` prints them)"
            )
        text = self._source.read()
        parsed = self._parsed
        if parsed is None or parsed[0] != text:
            parsed = self._parsed = text, Keyring.parse(text, VARIABLE)
        return parsed[1]
