"""Login tokens, which are used as passwords and expire.

The first token is made on demand. Later ones are made ahead of expiry in a background thread, so that opening a
connection does not wait. The caller provides the function that signs tokens.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from cache.forking import Exclusion

_logger = logging.getLogger("groundwork.login")
# AWS accepts a token for 15 minutes. Renewing after two thirds of that leaves time for many retries.
RENEW_SECONDS = 600.0
EXPIRY_SECONDS = 840.0
_RETRY_SECONDS = 5.0


@dataclass
class _Token:
    value: str
    made_at: float
    # When a renewal was last tried.
    tried_at: float = 0.0


class LoginTokens:
    """Tokens by subject: the arguments of `make`, such as host, port and user. Safe to use from several threads."""

    def __init__(self, make: Callable[..., str], clock: Callable[[], float] = monotonic) -> None:
        self._make = make
        self._clock = clock
        self._exclusively = Exclusion()
        self._tokens: dict[tuple[str, ...], _Token] = {}

    def current(self, *subject: str) -> str:
        """Return a valid token. Without one it calls `make`, and raises what `make` raises."""
        return self._exclusively(self._current, subject)

    def _current(self, subject: tuple[str, ...]) -> str:
        token = self._tokens.get(subject)
        age = EXPIRY_SECONDS if token is None else self._clock() - token.made_at
        if token is None or age >= EXPIRY_SECONDS:
            # Other callers wait for this token instead of signing one.
            token = self._tokens[subject] = _Token(self._make(*subject), self._clock())
        elif age >= RENEW_SECONDS and self._clock() - token.tried_at >= _RETRY_SECONDS:
            token.tried_at = self._clock()
            self._in_background(subject, self._renew)
        return token.value

    def prefetch(self, *subject: str) -> None:
        """Start making the first token in the background, for the first connection."""
        if subject not in self._tokens:
            self._in_background(subject, self.current)

    def _in_background(self, subject: tuple[str, ...], action: Callable[..., object]) -> None:
        def run() -> None:
            try:
                action(*subject)
            except Exception as error:
                # The current token stays in use. Without one, the connection that needs it raises the same error.
                _logger.warning("no new login token: %s", error)

        threading.Thread(target=run, name="groundwork-login-token", daemon=True).start()

    def _renew(self, *subject: str) -> None:
        self._tokens[subject] = _Token(self._make(*subject), self._clock())
