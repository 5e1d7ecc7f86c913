"""Tokens that stand in a password's place and expire: one is made when it is asked for, and the next in good time.

Who signs them is the caller's affair. A token is renewed by a thread of its own, so that whoever opens a
connection does not wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

_logger = logging.getLogger("groundwork.login")
# AWS's tokens are taken for fifteen minutes. Renewed after two thirds of that, a failure can be tried again
# often before it matters.
RENEW_SECONDS = 600.0
EXPIRY_SECONDS = 840.0
_RETRY_SECONDS = 5.0


@dataclass
class _Token:
    value: str
    made_at: float
    # When it was last tried to renew it.
    tried_at: float = 0.0


class LoginTokens:
    """Tokens by their subject: the arguments that `make` takes (host, port, user, ...)."""

    def __init__(self, make: Callable[..., str], clock: Callable[[], float] = monotonic) -> None:
        self._make = make
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, ...], _Token] = {}

    def current(self, *subject: str) -> str:
        """A token that is still taken. Raises what `make` raises, where there is none."""
        with self._lock:
            token = self._tokens.get(subject)
            age = EXPIRY_SECONDS if token is None else self._clock() - token.made_at
            if token is None or age >= EXPIRY_SECONDS:
                # Whoever else needs one waits for this, and signs none.
                token = self._tokens[subject] = _Token(self._make(*subject), self._clock())
            elif age >= RENEW_SECONDS and self._clock() - token.tried_at >= _RETRY_SECONDS:
                token.tried_at = self._clock()
                self._in_background(subject, self._renew)
            return token.value

    def prefetch(self, *subject: str) -> None:
        """Begin to make the first one, so that the first connection finds it."""
        with self._lock:
            if subject not in self._tokens:
                self._in_background(subject, self.current)

    def _in_background(self, subject: tuple[str, ...], action: Callable[..., object]) -> None:
        def run() -> None:
            try:
                action(*subject)
            except Exception as error:
                # The one there is goes on; without one, the connection that needs it says the same.
                _logger.warning("no new login token: %s", error)

        threading.Thread(target=run, name="groundwork-login-token", daemon=True).start()

    def _renew(self, *subject: str) -> None:
        made = _Token(self._make(*subject), self._clock())
        with self._lock:
            self._tokens[subject] = made
